#include "core/cuda/random_delay.h"

#include <atomic>

namespace lacuna::cuda::hopper {
namespace {

std::atomic<uint32_t> random_delays = 0;

}  // namespace

void SetRandomDelays(uint32_t seed) {
  random_delays = seed;
}
uint32_t RandomDelays() {
  return random_delays;
}

}  // namespace lacuna::cuda::hopper
