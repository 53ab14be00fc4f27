// Points in the work of a device's compute stream, and the time between them: CUDA events, or on the
// CPU the clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/device.h"

namespace lacuna {

namespace cuda {
class Events;
}

class StreamMarks {
 public:
  explicit StreamMarks(Device device);
  ~StreamMarks();

  // Where the stream's queue ends now.
  int64_t Set();
  // Of marks that the device has passed (Synchronize).
  double Seconds(int64_t begin, int64_t end) const;
  // Forgets them all; what they cost is kept for the next ones.
  void Clear() { count_ = 0; }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> times_;  // on the CPU
  std::unique_ptr<cuda::Events> events_;  // on a card
  int64_t count_ = 0;
};

}  // namespace lacuna
