#include "core/cuda/timer.h"

#include "core/cuda/check.h"

namespace lacuna::cuda {
namespace {

cudaEvent_t Event(void* event) {
  return static_cast<cudaEvent_t>(event);
}

}  // namespace

Events::Events(int count, Stream stream) : stream_(stream) {
  Add(count);
}

void Events::Add(int count) {
  for (int i = 0; i < count; ++i) {
    cudaEvent_t event;
    LACUNA_CUDA_CHECK(cudaEventCreate(&event));
    events_.push_back(event);
  }
}

Events::~Events() {
  for (void* event : events_) static_cast<void>(cudaEventDestroy(Event(event)));
}

void Events::Mark(int event) {
  LACUNA_CUDA_CHECK(cudaEventRecord(Event(events_[static_cast<size_t>(event)]),
                                    static_cast<cudaStream_t>(stream_.handle)));
}

double Events::Milliseconds(int begin, int end) const {
  float milliseconds = 0;
  LACUNA_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, Event(events_[static_cast<size_t>(begin)]),
                                         Event(events_[static_cast<size_t>(end)])));
  return milliseconds;
}

}  // namespace lacuna::cuda
