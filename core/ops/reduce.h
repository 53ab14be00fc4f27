// Sums in a fixed order: the same bits for any number of threads. Those over whole tensors are in f64.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

// result = sum of squares of x. A NaN or inf in x makes the result non-finite.
struct SumOfSquaresArgs {
  TensorRef x, result;  // result: [1] f64, set
};
// result = scale * sum of x
struct SumArgs {
  TensorRef x, result;  // result: [1] in x's accumulation type, set
  double scale = 1;
};
// y[i] = sum over p of x[p, i], in order of p, in the compute type (f32 for bf16), rounded once.
struct SumPartsArgs {
  TensorRef x, y;  // x: [P, M]   y: [M], x's dtype, set
};
// The factor that clips gradients to a global norm (Pascanu et al., 2013), or that stops a step.
//   factor = min(1, clip_norm / sqrt(sum of squares)),   1 for clip_norm = 0
//   NaN where the sum of squares or the loss is not finite
struct ClipFactorArgs {
  TensorRef squares, loss,
      factor;  // squares: [P] f64   loss: [1] f32 or f64   factor: [1] f64, set
  double clip_norm;
};

namespace cpu {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
void Sum(const SumArgs&, Stream);
void SumParts(const SumPartsArgs&, Stream);
void ClipFactor(const ClipFactorArgs&, Stream);
}  // namespace cpu
namespace cuda {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
void Sum(const SumArgs&, Stream);
void SumParts(const SumPartsArgs&, Stream);
void ClipFactor(const ClipFactorArgs&, Stream);
}  // namespace cuda
namespace ops {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
void Sum(const SumArgs&, Stream);
void SumParts(const SumPartsArgs&, Stream);
void ClipFactor(const ClipFactorArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
