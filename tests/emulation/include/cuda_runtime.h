// CUDA's device language for the emulation: what the Hopper kernels use of it, on threads of
// tests/emulation/card.h.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>

#include "tests/emulation/card.h"

#define __device__
#define __host__
#define __global__
#define __shared__
#define __grid_constant__
#define __launch_bounds__(...)
#define __forceinline__ inline

using std::isnan, std::max, std::min;

struct int2 {
  int x, y;
};
struct int4 {
  int x, y, z, w;
};
struct uint2 {
  uint32_t x, y;
};
struct uint4 {
  uint32_t x, y, z, w;
};
struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  return {x, y, z, w};
}

#define threadIdx (lacuna::emulation::ThisThread().thread_index)
#define blockIdx (lacuna::emulation::ThisThread().block_index)
#define blockDim (lacuna::emulation::ThisThread().block_size)
#define gridDim (lacuna::emulation::ThisThread().grid)

inline void __syncthreads() {
  lacuna::emulation::SyncBlock();
}
inline void __syncwarp(unsigned = ~0u) {
  lacuna::emulation::SyncWarp();
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  return lacuna::emulation::Gather(value)[from % 32];
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const int lane = threadIdx.x % 32;
  return lacuna::emulation::Gather(value)[lane ^ mask];
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
  const int lane = threadIdx.x % 32;
  return lacuna::emulation::Gather(value)[lane >= by ? lane - by : lane];
}
inline unsigned __ballot_sync(unsigned, bool set) {
  const auto all = lacuna::emulation::Gather(set);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= static_cast<unsigned>(all[i]) << i;
  return bits;
}
inline bool __any_sync(unsigned mask, bool set) {
  return __ballot_sync(mask, set) != 0;
}
inline bool __all_sync(unsigned mask, bool set) {
  return __ballot_sync(mask, set) == ~0u;
}
template <class T>
T __reduce_max_sync(unsigned, T value) {
  const auto all = lacuna::emulation::Gather(value);
  return *std::max_element(all.begin(), all.end());
}
template <class T>
T __reduce_min_sync(unsigned, T value) {
  const auto all = lacuna::emulation::Gather(value);
  return *std::min_element(all.begin(), all.end());
}
template <class T>
T __reduce_add_sync(unsigned, T value) {
  const auto all = lacuna::emulation::Gather(value);
  return std::accumulate(all.begin(), all.end(), T(0));
}

inline int __popc(unsigned x) {
  return std::popcount(x);
}
inline int __clz(int x) {
  return std::countl_zero(static_cast<unsigned>(x));
}
inline int __ffs(int x) {
  return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1;
}
inline float __int_as_float(int x) {
  return std::bit_cast<float>(x);
}
inline int __float_as_int(float x) {
  return std::bit_cast<int>(x);
}
inline uint32_t __float_as_uint(float x) {
  return std::bit_cast<uint32_t>(x);
}
inline float __uint_as_float(uint32_t x) {
  return std::bit_cast<float>(x);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __expf(float x) {
  return std::exp(x);
}
template <class T>
T __ldg(const T* from) {
  return *from;
}
// Threads are switched only where they wait: nothing comes between.
template <class T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
template <class T>
T atomicOr(T* to, T value) {
  const T before = *to;
  *to |= value;
  return before;
}
