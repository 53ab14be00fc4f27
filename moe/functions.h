// Differentiable functions of a mixture of experts; the formulas are in the operators' headers.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// y = x w^T in the accumulation type, not rounded to x's: the router's logits. x: [N, C], weight:
// [E, C], y: [N, E].
// dx is rounded once; dw may run later (GradContext::Defer).
Variable WideLinear(Tape& tape, const Variable& x, Parameter& weight);
// Where the rows of N tokens with K choices stand by expert (moe/permute.h).
struct RoutedRows {
  Tensor offsets;            // [E + 1] i64
  Tensor position;           // [N, K] i32, -1 where there is no choice
  int64_t num_choices = -1;  // where some are none: the others' number

  int64_t count() const { return num_choices < 0 ? position.numel() : num_choices; }
};
// y[n] = sum_k w[n, k] down_e (SwiGLU(gate_up_e x[n])), e the expert of choice (n, k), k ascending.
// x, y: [N, C]   weights: [N, K] in the accumulation type   gate_up: [E, 2F, C]   down: [E, C, F]
// Backward keeps x, the pre-activations [R, 2F] and the routing; dw of both matrices may run
// later. Where y is not read (ForwardContext::output_is_read) it is Tensor::Meta, and `down` has no
// part in forward.
Variable RoutedExperts(Tape& tape, const Variable& x, const Variable& weights,
                       const RoutedRows& rows, Parameter& gate_up, Parameter& down,
                       bool y_is_read = true);

}  // namespace lacuna
