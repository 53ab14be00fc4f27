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
  // Never blocks; any thread may ask, also while another one captures a graph.
  bool Done() const {
    if (event_ == nullptr) return true;
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    LACUNA_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
    const cudaError_t error = cudaEventQuery(event_.get());
    LACUNA_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
    if (error == cudaErrorNotReady) return false;
    LACUNA_CUDA_CHECK(error);
    return true;
  }

 private:
  std::shared_ptr<std::remove_pointer_t<cudaEvent_t>> event_;
};

}  // namespace lacuna::cuda
