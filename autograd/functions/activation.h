// Differentiable elementwise functions.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// a + b, one shape. Tensor::Meta where one of them is.
Variable Add(Tape& tape, const Variable& a, const Variable& b);
// 1 / (1 + exp(-x)).
Variable Sigmoid(Tape& tape, const Variable& x);
// The same in the accumulation type: for gates, which are rounded only after their product.
Variable Gate(Tape& tape, const Variable& x);
// silu(gate) * up of x = [gate | up] [N, 2F] -> [N, F]; core/ops/swiglu.h.
Variable SwiGlu(Tape& tape, const Variable& x);
// The same elements in another shape.
Variable Reshape(Tape& tape, const Variable& x, Shape shape);

}  // namespace lacuna
