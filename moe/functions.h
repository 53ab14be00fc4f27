// Differentiable functions of a mixture of experts; the formulas are in the operators' headers.
#pragma once

#include <functional>
#include <vector>

#include "autograd/tape.h"

namespace lacuna {

// y = x w^T in the accumulation type, not rounded to x's: the router's logits. x: [N, C], weight:
// [E, C], y: [N, E].
// dx is rounded once; dw may run later (GradContext::Defer).
Variable WideLinear(Tape& tape, const Variable& x, Parameter& weight);
// Where the rows of N tokens with K choices stand by expert (moe/permute.h), and an expert's by chunk
// of the tokens (moe/grouped_matmul.h): P of them, one of all where nothing says more.
struct RoutedRows {
  Tensor offsets;                          // [E P + 1] i64
  Tensor position;                         // [N, K] i32, -1 where there is no choice
  int64_t num_choices = -1;                // where some are none: the others' number
  std::vector<int64_t> chunk_begins = {};  // first tokens of the chunks, and N: [P + 1], or none

  int64_t count() const { return num_choices < 0 ? position.numel() : num_choices; }
  int64_t chunks() const {
    return chunk_begins.empty() ? 1 : static_cast<int64_t>(chunk_begins.size()) - 1;
  }
};
// Tokens that come and go chunk by chunk while others are worked on. Both are called once for each
// chunk, in order; neither has to be there.
struct ChunkTraffic {
  std::function<void(int64_t chunk)> arrive;                  // x has the chunk's tokens behind it
  std::function<void(int64_t chunk, const Tensor& y)> leave;  // y: theirs, [tokens, C]
};
// y[n] = sum_k w[n, k] down_e (SwiGLU(gate_up_e x[n])), e the expert of choice (n, k), k ascending.
// x, y: [N, C]   weights: [N, K] in the accumulation type   gate_up: [E, 2F, C]   down: [E, C, F]
// Backward keeps x, the pre-activations [R, 2F] and the routing, and works on all chunks at once; dw
// of both matrices may run later. Chunks change no bits of y and dx where a product's row does not
// depend on the rows beside it (the CUDA kernels; not OpenBLAS), and the order of rows in dw's sums.
// Where y is not read (ForwardContext::output_is_read) it is Tensor::Meta, no chunk leaves, and `down`
// has no part in forward.
Variable RoutedExperts(Tape& tape, const Variable& x, const Variable& weights,
                       const RoutedRows& rows, Parameter& gate_up, Parameter& down,
                       const ChunkTraffic& traffic = {}, bool y_is_read = true);

}  // namespace lacuna
