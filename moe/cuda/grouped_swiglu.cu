// The portable kernels: the product, then a warp a routed row.
#include <algorithm>

#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/swiglu.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/swiglu.h"
#include "moe/cuda/grouped_tile.cuh"
#include "moe/cuda/hopper/products.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"

namespace lacuna::cuda {
namespace {

constexpr int kWarpsABlock = 8, kRowsABlock = 32;

template <class T>
struct ChunkParams {
  ExpertOffsets offsets;
  int experts;
  int64_t rows;
  const T* z;
  T* h;
  int64_t width;
};

// SwiGLU of the rows of one chunk, kRowsABlock of an expert a block.
template <int kCount, class T>
__global__ void __launch_bounds__(kWarpsABlock* kWarp) SwiGluOfChunkKernel(const ChunkParams<T> p) {
  const RowRange range = FindRows<kWarpsABlock * kWarp, kRowsABlock>(p.offsets, p.experts, p.rows,
                                                                     static_cast<int>(blockIdx.x));
  for (int i = threadIdx.x / kWarp; i < range.rows; i += kWarpsABlock) {
    const int64_t row = range.begin + i;
    const T *const gate = p.z + 2 * row * p.width, *const up = gate + p.width;
    for (int64_t f = threadIdx.x % kWarp * kCount; f < p.width; f += kWarp * kCount) {
      const auto a = LoadFloats<kCount>(gate + f), u = LoadFloats<kCount>(up + f);
      Floats<kCount> h;
#pragma unroll
      for (int k = 0; k < kCount; ++k) h.value[k] = Silu(a.value[k]) * u.value[k];
      StoreFloats(p.h + row * p.width + f, h);
    }
  }
}

template <class T>
struct BwdParams {
  const T *z, *dh;
  const int32_t* position;
  const float* w;
  T *dz, *wh;
  float* dw;
  int64_t choices, width;
};

template <int kCount, class T>
__global__ void __launch_bounds__(kWarpsABlock* kWarp) RoutedSwiGluBwdKernel(const BwdParams<T> p) {
  const int64_t i = int64_t{blockIdx.x} * kWarpsABlock + threadIdx.x / kWarp;
  if (i >= p.choices) return;
  const int lane = threadIdx.x % kWarp;
  const int64_t row = p.position[i];
  if (row < 0) {
    if (lane == 0) p.dw[i] = 0;
    return;
  }
  const float weight = p.w[i];
  const T *gate = p.z + 2 * row * p.width, *up = gate + p.width, *dh = p.dh + row * p.width;
  T *const dgate = p.dz + 2 * row * p.width, *const dup = dgate + p.width,
           *const wh = p.wh + row * p.width;
  float dot = 0;
#pragma unroll 2
  for (int64_t f = lane * kCount; f < p.width; f += kWarp * kCount) {
    const auto a = LoadFloats<kCount>(gate + f), u = LoadFloats<kCount>(up + f),
               d = LoadFloats<kCount>(dh + f);
    Floats<kCount> out_gate, out_up, out_h;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float s = FastSigmoid(a.value[k]), h = a.value[k] * s * u.value[k];
      const auto [g, v] = SwiGluBackward(a.value[k], u.value[k], s, weight * d.value[k]);
      dot = fmaf(d.value[k], h, dot);
      out_gate.value[k] = g;
      out_up.value[k] = v;
      out_h.value[k] = weight * h;
    }
    StoreFloats(dgate + f, out_gate);
    StoreFloats(dup + f, out_up);
    StoreFloats(wh + f, out_h);
  }
  dot = WarpReduce(dot);
  if (lane == 0) p.dw[i] = dot;
}

}  // namespace

void GroupedSwiGlu(const GroupedSwiGluArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::GroupedSwiGlu(args, stream);
  GroupedMatMul({.x = args.x,
                 .w = args.w,
                 .offsets = args.offsets,
                 .y = args.z,
                 .chunks = args.chunks,
                 .chunk = args.chunk},
                stream);
  if (args.chunk == kAllChunks) return SwiGluFwd({.x = args.z, .h = args.h}, stream);
  const int64_t rows = args.z.dim(0), experts = args.w.dim(0), width = args.h.dim(1);
  if (rows == 0 || width == 0) return;
  const dim3 grid(static_cast<unsigned>(rows / kRowsABlock + std::min(experts, rows)));
  DispatchDeviceFloat(args.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const ChunkParams<T> params = {OffsetsOf(args.offsets, args.chunks, args.chunk),
                                   static_cast<int>(experts),
                                   rows,
                                   args.z.As<T>(),
                                   args.h.As<T>(),
                                   width};
    LaunchGrid(Packable<T>(args.z.data, width) && IsAligned(args.h.data)
                   ? SwiGluOfChunkKernel<kVector<T>, T>
                   : SwiGluOfChunkKernel<1, T>,
               grid, kWarpsABlock * kWarp, 0, stream, params);
  });
}

void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::RoutedSwiGluBwd(args, stream);
  const int64_t choices = args.position.numel(), width = args.down.dim(2);
  const Workspace gradients(args.dy.dim(0) * width * SizeOf(args.wh.dtype), stream);
  TensorRef dh = args.wh;
  dh.data = gradients.As<void>();
  GroupedMatMul({.x = args.dy,
                 .w = args.down,
                 .offsets = args.offsets,
                 .y = dh,
                 .transpose_w = false,
                 .chunks = args.chunks},
                stream);
  const dim3 grid(static_cast<unsigned>((choices + kWarpsABlock - 1) / kWarpsABlock));
  DispatchDeviceFloat(args.z.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const BwdParams<T> params = {args.z.As<T>(),      dh.As<T>(),      args.position.As<int32_t>(),
                                 args.w.As<float>(),  args.dz.As<T>(), args.wh.As<T>(),
                                 args.dw.As<float>(), choices,         width};
    const bool packs = Packable<T>(args.z.data, width) && IsAligned(dh.data) &&
                       IsAligned(args.dz.data) && IsAligned(args.wh.data);
    LaunchGrid(packs ? RoutedSwiGluBwdKernel<kVector<T>, T> : RoutedSwiGluBwdKernel<1, T>, grid,
               kWarpsABlock * kWarp, 0, stream, params);
  });
}

}  // namespace lacuna::cuda
