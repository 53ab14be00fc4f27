// Backward of SwiGLU in the epilogue of the product before it, between two small kernels: the routing
// weights by row, and the sums of their gradients' parts.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "moe/cuda/hopper/rows_launch.cuh"
#include "moe/cuda/hopper/store_swiglu_bwd.cuh"

namespace lacuna::cuda::hopper {
namespace {

constexpr int kSmallBlock = 256;

__global__ void WeightsByRowKernel(const int32_t* position, const float* w, int64_t choices,
                                   float* by_row) {
  const int64_t i = int64_t{blockIdx.x} * kSmallBlock + threadIdx.x;
  if (i < choices && position[i] >= 0) by_row[position[i]] = w[i];
}

// dw of a choice: the dot products of its row over all slots of features, in ascending order.
__global__ void SumDotsKernel(const float* dots, int64_t rows, const int32_t* position, int slots,
                              int64_t choices, float* dw) {
  const int64_t i = int64_t{blockIdx.x} * kSmallBlock + threadIdx.x;
  if (i >= choices) return;
  const int32_t row = position[i];
  float sum = 0;
  if (row >= 0) {
    for (int slot = 0; slot < slots; ++slot) sum += dots[slot * rows + row];
  }
  dw[i] = sum;
}

}  // namespace

bool Supports(const RoutedSwiGluBwdArgs& args, Stream stream) {
  return SupportsRows<StoreSwiGluBwd, false>(args.dy, args.down, stream) && IsPackable(args.z) &&
         IsPackable(args.dz) && IsPackable(args.wh);
}

void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs& args, Stream stream) {
  const int64_t rows = args.dy.dim(0), choices = args.position.numel(), width = args.down.dim(2),
                slots = (width + 63) / 64;
  const Workspace by_row(rows * int64_t{sizeof(float)}, stream),
      dots(slots * rows * int64_t{sizeof(float)}, stream);
  const dim3 grid(static_cast<unsigned>((choices + kSmallBlock - 1) / kSmallBlock));
  LaunchGrid(WeightsByRowKernel, grid, kSmallBlock, 0, stream, args.position.As<int32_t>(),
             args.w.As<float>(), choices, by_row.As<float>());
  auto p = Params<StoreSwiGluBwd>(args.dy, args.down, OffsetsOf(args.offsets, args.chunks), width);
  p.w = FeatureColumns(args.down);
  p.epilogue = {args.z.As<BFloat16>(), args.dz.As<BFloat16>(), args.wh.As<BFloat16>(),
                by_row.As<float>(),    dots.As<float>(),       rows};
  LaunchPersistent(RowsKernel<StoreSwiGluBwd, false>, RowsKernelShared<StoreSwiGluBwd>(p.experts),
                   stream, p);
  LaunchGrid(SumDotsKernel, grid, kSmallBlock, 0, stream, dots.As<float>(), rows,
             args.position.As<int32_t>(), static_cast<int>(slots), choices, args.dw.As<float>());
}

}  // namespace lacuna::cuda::hopper
