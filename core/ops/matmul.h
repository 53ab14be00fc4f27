// Matrix products of row-major matrices.
//   c = alpha * op(a) op(b) + beta * c,   op(x) = x or x^T
// op(a): [M, K]   op(b): [K, N]   c: [M, N].  a and b have one dtype; c has it too, or is f32 where
//   a and b are bf16.
// Sums are accumulated in f32 (f64 for f64). beta = 0 never reads c. M, N or K may be 0 (K = 0
// gives beta * c).
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct MatMulArgs {
  TensorRef a, b, c;
  bool transpose_a = false;
  bool transpose_b = false;
  double alpha = 1;
  double beta = 0;
};

namespace cpu {
void MatMul(const MatMulArgs&, Stream);
}
namespace cuda {
void MatMul(const MatMulArgs&, Stream);
}
namespace ops {
// Tensors of more than two dimensions count as matrices of their last dimension: [..., K] is [M,
// K].
void MatMul(const MatMulArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
