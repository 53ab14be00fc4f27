// For tests of kernels whose warps work apart: what is right only while warps happen to be in step
// shows when they wait now and then, at random.
#pragma once

#include <cstdint>

namespace lacuna::cuda::hopper {

// The kernels started from now on delay their warps, by this seed; 0 ends it.
void SetRandomDelays(uint32_t seed);
uint32_t RandomDelays();

#ifdef __CUDACC__
// At `place` of the kernel's own numbering; nothing where seed is zero.
__device__ inline void RandomDelay(uint32_t seed, uint32_t place) {
  if (seed == 0) return;
  uint32_t h = seed ^ place * 0x9E3779B9u ^ (blockIdx.x * 12 + threadIdx.x / 32) * 0x85EBCA6Bu;
  h = (h ^ h >> 16) * 0x7FEB352Du;
  h ^= h >> 15;
  if (h % 4 != 0) return;
  const long long start = clock64(), length = (h >> 8) % 4096;
  while (clock64() - start < length) continue;
}
#endif

}  // namespace lacuna::cuda::hopper
