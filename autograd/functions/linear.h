// Differentiable matrix products with parameters.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// y = x w^T [+ added].   x: [..., K]   weight: [M, K] (or any shape of M rows)   y, added: [..., M]
// dx = dy w;  d added = dy;  dw += dy^T x, which may run later (GradContext::Defer).
// A residual connection that comes as `added` costs no pass over memory of its own. Where y is not
// read (ForwardContext::output_is_read) it is Tensor::Meta.
Variable Linear(Tape& tape, const Variable& x, Parameter& weight, const Variable& added = {},
                bool y_is_read = true);

}  // namespace lacuna
