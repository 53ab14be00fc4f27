#include "recipes/rehearsal/stream_marks.h"

#include "core/stream.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/timer.h"
#endif

namespace lacuna {

#ifdef LACUNA_WITH_CUDA

StreamMarks::StreamMarks(Device device) {
  if (device.type == DeviceType::kCuda)
    events_ = std::make_unique<cuda::Events>(0, ComputeStream(device));
}

#else

namespace cuda {
class Events {};
}  // namespace cuda

StreamMarks::StreamMarks(Device) {}

#endif

StreamMarks::~StreamMarks() = default;

int64_t StreamMarks::Set() {
#ifdef LACUNA_WITH_CUDA
  if (events_ != nullptr) {
    constexpr int kMore = 1024;
    if (count_ == events_->count()) events_->Add(kMore);
    events_->Mark(static_cast<int>(count_));
    return count_++;
  }
#endif
  times_.resize(static_cast<size_t>(count_));
  times_.push_back(Clock::now());
  return count_++;
}

double StreamMarks::Seconds(int64_t begin, int64_t end) const {
#ifdef LACUNA_WITH_CUDA
  if (events_ != nullptr)
    return events_->Milliseconds(static_cast<int>(begin), static_cast<int>(end)) / 1e3;
#endif
  return std::chrono::duration<double>(times_[static_cast<size_t>(end)] -
                                       times_[static_cast<size_t>(begin)])
      .count();
}

}  // namespace lacuna
