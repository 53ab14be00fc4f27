// SwiGLU. A block takes kThreads packs of a row: blockIdx.x which ones, blockIdx.y the row (and
// every gridDim.y-th after it), so that no index is divided. Rows whose halves do not start at a
// multiple of 16 bytes go in packs of one.
#include "core/cuda/swiglu.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/swiglu.h"

namespace lacuna::cuda {
namespace {

template <int kCount, class T>
__global__ void SwiGluFwdKernel(const T* x, T* h, int64_t rows, int64_t width) {
  const int64_t f = GlobalIndex() * kCount;
  if (f >= width) return;
  for (int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
    const auto gate = LoadFloats<kCount>(x + 2 * n * width + f),
               up = LoadFloats<kCount>(x + (2 * n + 1) * width + f);
    Floats<kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.value[k] = Silu(gate.value[k]) * up.value[k];
    StoreFloats(h + n * width + f, out);
  }
}

template <int kCount, class T>
__global__ void SwiGluBwdKernel(const T* x, const T* dh, T* dx, int64_t rows, int64_t width) {
  const int64_t f = GlobalIndex() * kCount;
  if (f >= width) return;
  for (int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
    const auto gate = LoadFloats<kCount>(x + 2 * n * width + f),
               up = LoadFloats<kCount>(x + (2 * n + 1) * width + f),
               d = LoadFloats<kCount>(dh + n * width + f);
    Floats<kCount> dgate, dup;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const auto [g, u] =
          SwiGluBackward(gate.value[k], up.value[k], FastSigmoid(gate.value[k]), d.value[k]);
      dgate.value[k] = g;
      dup.value[k] = u;
    }
    StoreFloats(dx + 2 * n * width + f, dgate);
    StoreFloats(dx + (2 * n + 1) * width + f, dup);
  }
}

dim3 GridOf(int64_t rows, int64_t width, int count) {
  const int64_t columns = (width + int64_t{count} * kThreads - 1) / (int64_t{count} * kThreads);
  return dim3(static_cast<unsigned>(columns),
              static_cast<unsigned>(std::min<int64_t>(rows, 65535)));
}

}  // namespace

void SwiGluFwd(const SwiGluFwdArgs& args, Stream stream) {
  const int64_t rows = args.h.dim(0), width = args.h.dim(1);
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.x.data, width) && Packable<T>(args.h.data, width);
    const auto kernel = packs ? SwiGluFwdKernel<kVector<T>, T> : SwiGluFwdKernel<1, T>;
    LaunchGrid(kernel, GridOf(rows, width, packs ? kVector<T> : 1), kThreads, 0, stream,
               args.x.As<const T>(), args.h.As<T>(), rows, width);
  });
}

void SwiGluBwd(const SwiGluBwdArgs& args, Stream stream) {
  const int64_t rows = args.dh.dim(0), width = args.dh.dim(1);
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.x.data, width) && Packable<T>(args.dh.data, width) &&
                       Packable<T>(args.dx.data, width);
    const auto kernel = packs ? SwiGluBwdKernel<kVector<T>, T> : SwiGluBwdKernel<1, T>;
    LaunchGrid(kernel, GridOf(rows, width, packs ? kVector<T> : 1), kThreads, 0, stream,
               args.x.As<const T>(), args.dh.As<const T>(), args.dx.As<T>(), rows, width);
  });
}

}  // namespace lacuna::cuda
