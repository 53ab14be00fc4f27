// Elementwise operators on tensors of one shape. Arithmetic in the compute type (f32 for bf16),
// rounded once when stored.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct AddArgs {
  TensorRef a, b, y;  // y = a + b; y may be a or b
};
struct FillArgs {
  TensorRef y;  // every element becomes `value`
  double value;
};
struct CastArgs {
  TensorRef x, y;  // y = x in y's dtype
};
// y and dy have x's dtype, or its accumulation type where gates must not be rounded between the
// sigmoid and their product.
struct SigmoidFwdArgs {
  TensorRef x, y;  // y = 1 / (1 + exp(-x))
};
struct SigmoidBwdArgs {
  TensorRef y, dy, dx;  // dx = dy * y * (1 - y)
};

namespace cpu {
void Add(const AddArgs&, Stream);
void Fill(const FillArgs&, Stream);
void Cast(const CastArgs&, Stream);
void SigmoidFwd(const SigmoidFwdArgs&, Stream);
void SigmoidBwd(const SigmoidBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void Add(const AddArgs&, Stream);
void Fill(const FillArgs&, Stream);
void Cast(const CastArgs&, Stream);
void SigmoidFwd(const SigmoidFwdArgs&, Stream);
void SigmoidBwd(const SigmoidBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void Add(const AddArgs&, Stream);
void Fill(const FillArgs&, Stream);
void Cast(const CastArgs&, Stream);
void SigmoidFwd(const SigmoidFwdArgs&, Stream);
void SigmoidBwd(const SigmoidBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
