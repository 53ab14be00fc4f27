#include "moe/cuda/hopper/rows_launch.cuh"

namespace lacuna::cuda::hopper {
namespace {

// The matrices [E, Cout, Cin] as A of y = x w^T: a tile's features, 64 of the depth.
CUtensorMap FeatureRows(const TensorRef& w) {
  const int64_t out = w.dim(1), in = w.dim(2);
  return MakeTensorMap(w.data, {{in, 1, 64}, {out, in, kM}, {w.dim(0), out * in, 1}});
}
// [E, 2F, C] as A of y = x w^T with 8 rows of gates and their 8 rows of ups taking turns.
CUtensorMap InterleavedRows(const TensorRef& w) {
  const int64_t width = w.dim(1) / 2, in = w.dim(2);
  return MakeTensorMap(w.data, {{in, 1, 64},
                                {8, in, 8},
                                {2, width * in, 2},
                                {width / 8, 8 * in, kM / 16},
                                {w.dim(0), 2 * width * in, 1}});
}

}  // namespace

bool Supports(const GroupedMatMulArgs& args, Stream stream) {
  return SupportsRows<StoreProducts, true>(args.x, args.w, stream) && IsPackable(args.y);
}
bool Supports(const GroupedSwiGluArgs& args, Stream stream) {
  return SupportsRows<StoreSwiGlu, true>(args.x, args.w, stream) && IsPackable(args.z) &&
         IsPackable(args.h);
}

void GroupedMatMul(const GroupedMatMulArgs& args, Stream stream) {
  auto p = Params<StoreProducts>(args.x, args.w, OffsetsOf(args.offsets, args.chunks, args.chunk),
                                 args.y.dim(1));
  p.w = args.transpose_w ? FeatureRows(args.w) : FeatureColumns(args.w);
  p.epilogue = {args.y.As<BFloat16>()};
  LaunchPersistent(
      args.transpose_w ? RowsKernel<StoreProducts, true> : RowsKernel<StoreProducts, false>,
      RowsKernelShared<StoreProducts>(p.experts), stream, p);
}

void GroupedSwiGlu(const GroupedSwiGluArgs& args, Stream stream) {
  const int64_t width = args.h.dim(1);
  auto p = Params<StoreSwiGlu>(args.x, args.w, OffsetsOf(args.offsets, args.chunks, args.chunk),
                               2 * width);
  p.feature_pairs = static_cast<int>((width + kM - 1) / kM);  // half of a tile is gates
  p.w = InterleavedRows(args.w);
  p.epilogue = {args.z.As<BFloat16>(), args.h.As<BFloat16>()};
  LaunchPersistent(RowsKernel<StoreSwiGlu, true>, RowsKernelShared<StoreSwiGlu>(p.experts), stream,
                   p);
}

}  // namespace lacuna::cuda::hopper
