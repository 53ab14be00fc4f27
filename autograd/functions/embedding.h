// Differentiable embedding.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// Rows of weight [V, C] by ids [N] i32 -> [N, C].
Variable Embedding(Tape& tape, const Tensor& ids, Parameter& weight);

}  // namespace lacuna
