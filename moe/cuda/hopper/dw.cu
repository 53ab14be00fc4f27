#include "moe/cuda/hopper/dw_kernel.cuh"
#include "moe/cuda/hopper/launch.cuh"
#include "moe/cuda/hopper/products.h"

namespace lacuna::cuda::hopper {
namespace {

int64_t RoundUp(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

bool Supports(const GroupedMatMulDwArgs& args, Stream stream) {
  return HasCode(DwKernel<true, false>, stream) && IsPackable(args.dy) && IsPackable(args.x) &&
         IsAligned(args.dw.data) && DwKernelShared(args.dw.dim(0)) <= kMaxShared &&
         args.x.dim(0) > 0 && args.x.dim(0) < (int64_t{1} << 31);
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream stream) {
  constexpr int kPair = kCluster * DwTile::kM;
  const int64_t out = args.dw.dim(1), in = args.dw.dim(2);
  const bool transposed =
      RoundUp(in, kPair) * RoundUp(out, DwTile::kN) < RoundUp(out, kPair) * RoundUp(in, DwTile::kN);
  const TensorRef &a = transposed ? args.x : args.dy, &b = transposed ? args.dy : args.x;
  DwParams p = {};
  p.delays = RandomDelays();
  p.a = RowsMap(a, kDepth);
  p.b = RowsMap(b, kDepth / 2);
  p.offsets = OffsetsOf(args.offsets, args.chunks);
  p.dw = {MakeFloatTensorMap(args.dw.data, {{in, 1, kStepColumns},
                                            {out, in, transposed ? kStepColumns : 64},
                                            {args.dw.dim(0), out * in, 1}}),
          static_cast<int>(a.dim(1)), static_cast<int>(b.dim(1))};
  p.rows = args.x.dim(0);
  p.experts = static_cast<int>(args.dw.dim(0));
  p.pairs = (p.dw.m + kPair - 1) / kPair;
  p.columns = (p.dw.n + DwTile::kN - 1) / DwTile::kN;
  const auto kernel = args.accumulate
                          ? (transposed ? DwKernel<true, true> : DwKernel<true, false>)
                          : (transposed ? DwKernel<false, true> : DwKernel<false, false>);
  LaunchPersistent(kernel, DwKernelShared(p.experts), stream, p);
}

}  // namespace lacuna::cuda::hopper
