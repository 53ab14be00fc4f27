#include "core/cuda/check.h"

#include "core/cuda/memory.h"
#include "core/error.h"

namespace lacuna::cuda {

void Fail(const char* file, int line, const char* call, cudaError_t error) {
  const std::string text =
      fmt::format("CUDA: {} ({})", cudaGetErrorString(error), cudaGetErrorName(error));
  // What we asked for, not what happened to the card.
  const bool of_a_capture =
      error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread;
  if (error == cudaErrorNotSupported || error == cudaErrorInvalidValue || of_a_capture)
    lacuna::internal::Fail(file, line, call, text);
  // The card is fine; pinned host memory and kernels that are loaded late fail so, too.
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    FailForMemory(fmt::format("{}:{}: {}", file, line, call).c_str());
  }
  throw DeviceError(fmt::format("{}:{}: {}: {}", file, line, call, text));
}

}  // namespace lacuna::cuda
