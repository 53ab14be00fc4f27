#include "moe/cuda/hopper/dw_kernel.cuh"
#include "moe/cuda/hopper/launch.cuh"
#include "moe/cuda/hopper/products.h"

namespace lacuna::cuda::hopper {

bool Supports(const GroupedMatMulDwArgs& args, Stream stream) {
  return HasCode(DwKernel<true>, stream) && IsPackable(args.dy) && IsPackable(args.x) &&
         IsAligned(args.dw.data) && args.x.dim(0) < (int64_t{1} << 31);
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream stream) {
  if (args.x.dim(0) == 0) return;
  DwParams p = {};
  p.a = RowsMap(args.dy, kDepth);
  p.b = RowsMap(args.x, kDepth);
  p.offsets = args.offsets.As<int64_t>();
  p.dw = args.dw.As<float>();
  p.rows = args.x.dim(0);
  p.experts = static_cast<int>(args.dw.dim(0));
  p.out = static_cast<int>(args.dw.dim(1));
  p.in = static_cast<int>(args.dw.dim(2));
  p.out_tiles = (p.out + kM - 1) / kM;
  p.in_pairs = (p.in + kCluster * kN - 1) / (kCluster * kN);
  LaunchPersistent(DwKernel<true>, kDwShared, stream, p);
}

}  // namespace lacuna::cuda::hopper
