// Event: a point in the work of a stream. Copies share it.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <type_traits>

#include "core/cuda/check.h"

namespace lacuna::cuda {

class Event {
 public:
  Event() = default;  // of no stream: done

  // A new point: what `stream` has been given so far.
  void Record(cudaStream_t stream) {
    cudaEvent_t event = nullptr;
    LACUNA_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    event_ = {event, [](cudaEvent_t one) { static_cast<void>(cudaEventDestroy(one)); }};
    LACUNA_CUDA_CHECK(cudaEventRecord(event, stream));
  }
  // What `stream` is given from now on begins after it.
  void MakeWait(cudaStream_t stream) const {
    if (event_ != nullptr) LACUNA_CUDA_CHECK(cudaStreamWaitEvent(stream, event_.get(), 0));
  }
  // Neither blocks; any thread may ask, also while another one captures a graph.
  bool Done() const {
    const cudaError_t error = Query();
    if (error == cudaErrorNotReady) return false;
    LACUNA_CUDA_CHECK(error);
    return true;
  }
  // False where the device failed, too.
  bool Reached() const noexcept { return Query() == cudaSuccess; }

 private:
  cudaError_t Query() const noexcept {
    if (event_ == nullptr) return cudaSuccess;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode));
    const cudaError_t error = cudaEventQuery(event_.get());
    // No failure: the next check must not see it.
    if (error == cudaErrorNotReady) static_cast<void>(cudaGetLastError());
    static_cast<void>(cudaThreadExchangeStreamCaptureMode(&mode));
    return error;
  }

  std::shared_ptr<std::remove_pointer_t<cudaEvent_t>> event_;
};

}  // namespace lacuna::cuda
