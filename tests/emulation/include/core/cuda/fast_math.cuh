// core/cuda/fast_math.cuh for the emulation.
#pragma once

#include <cuda_runtime.h>

namespace lacuna::cuda {

inline float Exp2(float x) {
  return std::exp2(x);
}
inline float Reciprocal(float x) {
  return 1 / x;
}
inline float Log2(float x) {
  return std::log2(x);
}

}  // namespace lacuna::cuda
