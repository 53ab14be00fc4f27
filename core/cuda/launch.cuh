// Launching kernels: dtype dispatch, grid-stride indices, conversions at load and store.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#include "core/cuda/check.h"
#include "core/device.h"
#include "core/dtype.h"

namespace lacuna::cuda {

inline constexpr int kThreads = 256;

__device__ inline int64_t GlobalIndex() {
  return int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}
__device__ inline int64_t GridSize() {
  return int64_t{gridDim.x} * blockDim.x;
}

template <class T>
__device__ auto Load(T value) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(value);
  } else {
    return value;
  }
}
template <class To, class From>
__device__ To Store(From value) {
  if constexpr (std::is_same_v<To, BFloat16>) {
    return BFloat16(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

// kernel<<<grid, block, shared>>>(args...) on the stream, and the check of the launch. Dynamic
// shared memory above 48 KB is asked for here.
template <class... Parameters, class... Args>
void LaunchGrid(void (*kernel)(Parameters...), dim3 grid, dim3 block, int64_t shared, Stream stream,
                Args... args) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared > 48 * 1024) {
    LACUNA_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           static_cast<int>(shared)));
  }
  kernel<<<grid, block, static_cast<size_t>(shared), static_cast<cudaStream_t>(stream.handle)>>>(
      args...);
  LACUNA_CUDA_CHECK(cudaGetLastError());
}

// kernel(args...) over n elements on the stream; nothing is launched for n = 0.
template <class... Parameters, class... Args>
void Launch(void (*kernel)(Parameters...), int64_t n, Stream stream, Args... args) {
  const int64_t blocks = std::min<int64_t>((n + kThreads - 1) / kThreads, 1 << 16);
  LaunchGrid(kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, args...);
}

// f32 and bf16: what device kernels compute on.
template <class F>
void DispatchDeviceFloat(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f(std::type_identity<float>{});
    case DType::kBF16:
      return f(std::type_identity<BFloat16>{});
    default:
      Fail(__FILE__, __LINE__, NameOf(dtype), cudaErrorNotSupported);
  }
}

// What else is stored, copied and counted there: f64 holds exact counts and sums.
template <class F>
void DispatchDeviceAny(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF64:
      return f(std::type_identity<double>{});
    case DType::kI32:
      return f(std::type_identity<int32_t>{});
    case DType::kI64:
      return f(std::type_identity<int64_t>{});
    case DType::kU8:
      return f(std::type_identity<uint8_t>{});
    default:
      return DispatchDeviceFloat(dtype, f);
  }
}

}  // namespace lacuna::cuda
