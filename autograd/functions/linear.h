// Differentiable matrix products with parameters.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// y = x w^T.   x: [..., K]   weight: [M, K] (or any shape of M rows)   y: [..., M]
// dx = dy w;  dw += dy^T x, which may run later (GradContext::Defer).
Variable Linear(Tape& tape, const Variable& x, Parameter& weight);

}  // namespace lacuna
