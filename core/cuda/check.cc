#include "core/cuda/check.h"

#include "core/error.h"

namespace lacuna::cuda {

void Fail(const char* file, int line, const char* call, cudaError_t error) {
  lacuna::internal::Fail(
      file, line, call,
      fmt::format("CUDA: {} ({})", cudaGetErrorString(error), cudaGetErrorName(error)));
}

}  // namespace lacuna::cuda
