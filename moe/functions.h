// Differentiable functions of a mixture of experts; the formulas are in the operators' headers.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// y = x w^T in the accumulation type, not rounded to x's: the router's logits. x: [N, C], weight:
// [E, C], y: [N, E].
// dx is rounded once; dw may run later (GradContext::Defer).
Variable WideLinear(Tape& tape, const Variable& x, Parameter& weight);
// Rows of x [N, C] to their experts' places [R, C]; position [N, K] i32 of moe/permute.h.
Variable PermuteRows(Tape& tape, const Variable& x, const Tensor& position);
// The weighted sum of a token's rows: x [R, C], weights [N, K] in the accumulation type -> [N, C].
Variable UnpermuteRows(Tape& tape, const Variable& x, const Variable& weights,
                       const Tensor& position);
// Rows of expert e, offsets [E + 1] i64, through matrix e: x [R, Cin], weight [E, Cout, Cin] -> [R,
// Cout]. dw may run later.
Variable GroupedLinear(Tape& tape, const Variable& x, Parameter& weight, const Tensor& offsets);

}  // namespace lacuna
