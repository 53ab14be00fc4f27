// Sums over whole tensors, in f64 and in a fixed order: the same bits for any number of threads.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

// result = sum of squares of x. A NaN or inf in x makes the result non-finite.
struct SumOfSquaresArgs {
  TensorRef x, result;  // result: [1] f64, set
};

namespace cpu {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
}
namespace cuda {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
}
namespace ops {
void SumOfSquares(const SumOfSquaresArgs&, Stream);
}

}  // namespace lacuna
