// Matrix products of row-major matrices.
//   c = alpha * op(a) op(b) + beta * c,   op(x) = x or x^T
//   c = alpha * op(a) op(b) + add,   where add is given; beta is 0 then
// op(a): [M, K]   op(b): [K, N]   c, add: [M, N].  a and b have one dtype; c and add have it too, or
//   are f32 where a and b are bf16.
// Sums are accumulated in f32 (f64 for f64) and rounded once. beta = 0 never reads c. M, N or K may
// be 0 (K = 0 gives beta * c or add).
// batch_invariant: a row of c has the same bits whatever M is, whatever the other rows hold and
// wherever it stands among them. For a that is not transposed; rows of a, b and c that start at
// addresses of other alignments (below 16 bytes) may have other bits. No split sums, so with few
// rows it can be slower; N = 1 in bf16 is refused on CUDA, whose library splits them.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct MatMulArgs {
  TensorRef a, b, add = {}, c;
  bool transpose_a = false;
  bool transpose_b = false;
  double alpha = 1;
  double beta = 0;
  bool batch_invariant = false;
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
