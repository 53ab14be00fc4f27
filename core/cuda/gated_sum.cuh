// The gated sum of three values, rounded alike wherever it is made: in the epilogue of selected
// attention, or by a kernel of its own (nsa/gate_combine.h).
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace lacuna::cuda {

// gates: of a, b and c.
__device__ inline float WeightedSum(const float (&gates)[3], float a, float b, float c) {
  return fmaf(gates[2], c, fmaf(gates[1], b, gates[0] * a));
}

}  // namespace lacuna::cuda
