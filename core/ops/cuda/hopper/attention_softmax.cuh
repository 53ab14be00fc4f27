// The softmax of Hopper attention, over key tiles that go by.
#pragma once

#include <cmath>

#include "core/cuda/fast_math.cuh"
#include "core/cuda/fragments.cuh"

namespace lacuna::cuda::hopper::attention {

// The softmax of a thread's two rows so far; scores are in units of log 2. A row's exponentials are
// relative to `shift`, which follows the largest score only when that is more than kSlack above it:
// nearly never after the first key tiles, and only then what was summed before has to shrink.
struct SoftmaxState {
  static constexpr float kSlack = 8;
  float shift[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // of the thread's own columns
  float shrink[2];

  // Takes scores into `shift`. True where a row of the warp has to shrink. factor: from scores as they
  // stand to units of log 2, positive.
  template <int kCount>
  __device__ __forceinline__ bool Raise(const float (&s)[kCount], float factor) {
    bool raised = false;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float even = s[2 * r], odd = s[2 * r + 1];
#pragma unroll
      for (int j = 4; j < kCount; j += 4) {
        even = fmaxf(even, s[j + 2 * r]);
        odd = fmaxf(odd, s[j + 2 * r + 1]);
      }
      const float largest = QuadMax(fmaxf(even, odd)) * factor;
      const bool raise = largest - shift[r] > kSlack;  // not where both are -inf
      shrink[r] = raise ? Exp2(shift[r] - largest) : 1.0f;
      shift[r] = raise ? largest : shift[r];
      raised |= raise;
    }
    return __any_sync(0xFFFFFFFFu, raised);
  }
  // Scores -> exponentials, in place.
  template <int kCount>
  __device__ __forceinline__ void Exponentiate(float (&s)[kCount], float factor) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float minus = shift[r] == -INFINITY ? 0.0f : -shift[r];
      sum[r] *= shrink[r];
#pragma unroll
      for (int j = 0; j < kCount; j += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[j + 2 * r + e];
          x = Exp2(fmaf(x, factor, minus));
          sum[r] += x;
        }
      }
    }
  }
};

}  // namespace lacuna::cuda::hopper::attention
