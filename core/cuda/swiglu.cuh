// SwiGLU's arithmetic, the same wherever a kernel contains it.
#pragma once

#include <cuda_runtime.h>

namespace lacuna::cuda {

// Both with the fast exponential and reciprocal: a few units in the last place of f32.
__device__ inline float FastSigmoid(float x) {
  return __fdividef(1.0f, 1.0f + __expf(-x));
}
__device__ inline float Silu(float x) {
  return x * FastSigmoid(x);
}

struct SwiGluGradient {
  float gate, up;
};
// Of silu(gate) * up for its gradient d; s = FastSigmoid(gate).
__device__ inline SwiGluGradient SwiGluBackward(float gate, float up, float s, float d) {
  return {d * up * s * (1.0f + gate * (1.0f - s)), d * gate * s};
}

}  // namespace lacuna::cuda
