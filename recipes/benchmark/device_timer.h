// Time that calls take on a device: CUDA events around groups of calls (on the CPU the clock), and
// the median over many groups.
#pragma once

#include "core/tensor.h"
#include "recipes/benchmark/benchmark_row.h"

namespace lacuna {

struct Timing {
  double milliseconds = 0;  // of one call, the median
  int samples = 0;
  int calls = 0;  // of a sample, one after the other
};

class DeviceTimer {
 public:
  // Measures each row for about `seconds`, but in five samples at least.
  explicit DeviceTimer(Device device, double seconds = 0.12);

  // Of a call whose inputs are there.
  Timing Measure(const BenchCall& call);
  // Of a row, its inputs made for this and gone after it.
  Timing Measure(const BenchRow& row);

 private:
  Device device_;
  double seconds_;
  // Zeroed before each sample: what earlier calls left in the cache goes, and the device is busy
  // while the host queues the sample, so that launching is no part of it.
  Tensor scratch_;
};

// The yardsticks of every row, measured in the same run.
struct Ceilings {
  double flops_per_second = 0;  // product of two square bf16 matrices of random numbers
  double bytes_per_second = 0;  // copy on the device, bytes read and written

  double Of(BenchRow::Bound bound) const {
    return bound == BenchRow::Bound::kBytes ? bytes_per_second : flops_per_second;
  }
};
Ceilings MeasureCeilings(const BenchSizes& sizes, Device device, DeviceTimer& timer);

}  // namespace lacuna
