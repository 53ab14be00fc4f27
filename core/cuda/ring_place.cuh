// Where a thread is in a ring of stages in shared memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace lacuna::cuda {

// A stage and the parity of how often the ring went round, which is that of its barriers' phases.
template <int kStages>
struct RingPlace {
  uint32_t stage = 0, round = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      round ^= 1;
    }
  }
};

}  // namespace lacuna::cuda
