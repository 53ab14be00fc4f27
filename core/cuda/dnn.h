// cuDNN: a handle a device and the check of its calls.
#pragma once

#include <cudnn.h>

#include "core/device.h"

namespace lacuna::cuda {

[[noreturn]] void Fail(const char* file, int line, const char* call, cudnnStatus_t status);

#define LACUNA_CUDNN_CHECK(call)                                               \
  do {                                                                         \
    if (const cudnnStatus_t status_ = (call); status_ != CUDNN_STATUS_SUCCESS) \
      ::lacuna::cuda::Fail(__FILE__, __LINE__, #call, status_);                \
  } while (false)

// A handle of the stream's device, its work going to that stream. For one thread at a time; threads
// that work at the same time have numbers of their own, below kMaxDnnThreads.
inline constexpr size_t kMaxDnnThreads = 8;
cudnnHandle_t DnnHandle(Stream stream, size_t thread = 0);

}  // namespace lacuna::cuda
