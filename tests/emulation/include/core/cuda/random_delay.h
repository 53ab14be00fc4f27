// core/cuda/random_delay.h for the emulation, whose threads are delayed by its own random numbers.
#pragma once

#include <cstdint>

#include "tests/emulation/card.h"

namespace lacuna::cuda::hopper {

inline uint32_t RandomDelays() {
  return 0;
}
inline void RandomDelay(uint32_t, uint32_t) {
  emulation::WaitAtRandom();
}

}  // namespace lacuna::cuda::hopper
