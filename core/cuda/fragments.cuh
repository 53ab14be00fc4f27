// Where a lane's elements of a tensor core fragment are: rows g and g + 8, columns 2t and 2t + 1 of
// every 8, g = lane / 4, t = lane % 4.
#pragma once

#include <cuda_runtime.h>

namespace lacuna::cuda {

inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.693147180559945309f;

__device__ inline int FragmentRow() {
  return static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ inline int FragmentColumn() {
  return static_cast<int>(threadIdx.x) % 4 * 2;
}

// Max and sum over the four lanes that share a fragment's row.
__device__ inline float QuadMax(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}
__device__ inline float QuadSum(float x) {
  x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}

}  // namespace lacuna::cuda
