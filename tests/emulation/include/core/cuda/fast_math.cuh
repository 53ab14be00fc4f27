// core/cuda/fast_math.cuh for the emulation.
#pragma once

#include <cuda_runtime.h>

namespace lacuna::cuda {

// Denormals are 0, as there.
inline float Exp2(float x) {
  const float y = std::exp2(x);
  return y < 0x1p-126f ? 0.0f : y;
}
inline float Reciprocal(float x) {
  return 1 / x;
}
inline float Log2(float x) {
  return std::log2(x);
}

}  // namespace lacuna::cuda
