// Rotary position embedding (Su et al., 2021), half-split on the first R dims of every head; the
// others pass through.
//   y[i] = x[i] cos[p, i] - x[i + R/2] sin[p, i],   y[i + R/2] = x[i + R/2] cos[p, i] + x[i] sin[p,
//     i],   i < R/2, p = positions[n]
// The backward is the same with `inverse` (the transposed matrix). Rotation in the accumulation
// type, rounded once.
// x, y: [N, heads, D], y may be x   positions: [N] i32   cos, sin: [P, R/2] accumulation type, P >
//   every position, R <= D
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct RopeArgs {
  TensorRef x, positions, cos, sin, y;
  bool inverse = false;
};

namespace cpu {
void Rope(const RopeArgs&, Stream);
}
namespace cuda {
void Rope(const RopeArgs&, Stream);
}
namespace ops {
void Rope(const RopeArgs&, Stream);
}

}  // namespace lacuna
