#include "core/cuda/dnn.h"

#include <array>

#include "core/cuda/graph.h"
#include "core/error.h"

namespace lacuna::cuda {

void Fail(const char* file, int line, const char* call, cudnnStatus_t status) {
  std::array<char, 512> details{};
  cudnnGetLastErrorString(details.data(), details.size());
  lacuna::internal::Fail(file, line, call,
                         fmt::format("cuDNN {}: {} {}", cudnnGetVersion(),
                                     cudnnGetErrorString(status), details.data()));
}

cudnnHandle_t DnnHandle(Stream stream, size_t thread) {
  constexpr size_t kMaxDevices = 16;
  // Kept as long as the program: plans refer to the handle they were made with.
  static std::array<std::array<cudnnHandle_t, kMaxDnnThreads>, kMaxDevices> handles{};
  cudnnHandle_t& handle = handles[static_cast<size_t>(stream.device.index)].at(thread);
  if (handle == nullptr) {
    RefuseInCapture("cuDNN is used for the first time; the work has to run once before");
    LACUNA_CUDNN_CHECK(cudnnCreate(&handle));
  }
  LACUNA_CUDNN_CHECK(cudnnSetStream(handle, static_cast<cudaStream_t>(stream.handle)));
  return handle;
}

}  // namespace lacuna::cuda
