#include <atomic>

#include "moe/cuda/hopper/launch.cuh"
#include "moe/cuda/hopper/products.h"
#include "moe/cuda/hopper/rows_kernel.cuh"

namespace lacuna::cuda::hopper {
namespace {

// The matrices [E, Cout, Cin] as A of y = x w^T: a tile's features, 64 of the depth.
CUtensorMap FeatureRows(const TensorRef& w) {
  const int64_t out = w.dim(1), in = w.dim(2);
  return MakeTensorMap(w.data, {{in, 1, 64}, {out, in, kM}, {w.dim(0), out * in, 1}});
}
// As A of y = x w.
CUtensorMap FeatureColumns(const TensorRef& w) {
  const int64_t out = w.dim(1), in = w.dim(2);
  return MakeTensorMap(w.data, {{in, 1, 64}, {out, in, 64}, {w.dim(0), out * in, 1}});
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

template <class Epilogue>
RowsParams<Epilogue> Params(const TensorRef& x, const TensorRef& w, const TensorRef& offsets,
                            int64_t features) {
  RowsParams<Epilogue> p = {};
  p.delays = RandomDelays();
  p.x = RowsMap(x, kRowBox);
  p.offsets = offsets.As<int64_t>();
  p.rows = x.dim(0);
  p.experts = static_cast<int>(w.dim(0));
  p.slices = static_cast<int>((x.dim(1) + kDepth - 1) / kDepth);
  p.features = static_cast<int>(features);
  p.feature_pairs = static_cast<int>((features + kCluster * kM - 1) / (kCluster * kM));
  return p;
}

bool SupportsRows(const TensorRef& x, const TensorRef& w, int64_t shared, Stream stream) {
  return HasCode(RowsKernel<StoreProducts, true>, stream) && IsPackable(x) && IsPackable(w) &&
         shared <= kMaxShared && x.dim(0) > 0 && w.dim(0) > 0 && x.dim(0) < (int64_t{1} << 31);
}

std::atomic<uint32_t> random_delays = 0;

}  // namespace

void SetRandomDelays(uint32_t seed) {
  random_delays = seed;
}
uint32_t RandomDelays() {
  return random_delays;
}

bool Supports(const GroupedMatMulArgs& args, Stream stream) {
  return SupportsRows(args.x, args.w, RowsKernelShared<StoreProducts>(args.w.dim(0)), stream) &&
         IsPackable(args.y);
}
bool Supports(const GroupedSwiGluArgs& args, Stream stream) {
  return SupportsRows(args.x, args.w, RowsKernelShared<StoreSwiGlu>(args.w.dim(0)), stream) &&
         IsPackable(args.z) && IsPackable(args.h);
}

void GroupedMatMul(const GroupedMatMulArgs& args, Stream stream) {
  auto p = Params<StoreProducts>(args.x, args.w, args.offsets, args.y.dim(1));
  p.w = args.transpose_w ? FeatureRows(args.w) : FeatureColumns(args.w);
  p.epilogue = {args.y.As<BFloat16>()};
  LaunchPersistent(
      args.transpose_w ? RowsKernel<StoreProducts, true> : RowsKernel<StoreProducts, false>,
      RowsKernelShared<StoreProducts>(p.experts), stream, p);
}

void GroupedSwiGlu(const GroupedSwiGluArgs& args, Stream stream) {
  const int64_t width = args.h.dim(1);
  auto p = Params<StoreSwiGlu>(args.x, args.w, args.offsets, 2 * width);
  p.feature_pairs = static_cast<int>((width + kM - 1) / kM);  // half of a tile is gates
  p.w = InterleavedRows(args.w);
  p.epilogue = {args.z.As<BFloat16>(), args.h.As<BFloat16>()};
  LaunchPersistent(RowsKernel<StoreSwiGlu, true>, RowsKernelShared<StoreSwiGlu>(p.experts), stream,
                   p);
}

}  // namespace lacuna::cuda::hopper
