#include "core/cuda/memory.h"

#include <algorithm>

#include "core/cuda/check.h"

namespace lacuna::cuda {

void* Allocate(int64_t bytes, Device device) {
  LACUNA_CUDA_CHECK(cudaSetDevice(device.index));
  void* data = nullptr;
  LACUNA_CUDA_CHECK(cudaMallocAsync(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)),
                                    cudaStreamPerThread));
  return data;
}

void Free(void* data, Device device) noexcept {
  // A failure here is a sticky error of earlier work, or the runtime is shutting down; the next
  // checked call reports it.
  if (cudaSetDevice(device.index) == cudaSuccess)
    static_cast<void>(cudaFreeAsync(data, cudaStreamPerThread));
}

}  // namespace lacuna::cuda
