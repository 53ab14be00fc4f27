// core/cuda/random_delay.h for the emulation, whose copies and products take random times and whose
// threads take random turns anyway.
#pragma once

#include <cstdint>

namespace lacuna::cuda::hopper {

inline uint32_t RandomDelays() {
  return 0;
}
inline void RandomDelay(uint32_t, uint32_t) {}

}  // namespace lacuna::cuda::hopper
