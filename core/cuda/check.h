// The one check of CUDA runtime calls: LACUNA_CUDA_CHECK(cudaMalloc(&p, n)) throws lacuna::Error
// with the decoded text.
// CUDA sources include this header: it pulls in nothing but the runtime.
#pragma once

#include <cuda_runtime_api.h>

namespace lacuna::cuda {
[[noreturn]] void Fail(const char* file, int line, const char* call, cudaError_t error);
}  // namespace lacuna::cuda

#define LACUNA_CUDA_CHECK(call)                                   \
  do {                                                            \
    if (const cudaError_t error_ = (call); error_ != cudaSuccess) \
      ::lacuna::cuda::Fail(__FILE__, __LINE__, #call, error_);    \
  } while (false)
