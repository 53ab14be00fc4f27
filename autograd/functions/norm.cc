#include "autograd/functions/norm.h"

#include "autograd/saved_value.h"
#include "core/ops/rms_norm.h"

namespace lacuna {

Variable RmsNorm(Tape& tape, const Variable& x, Parameter& weight, double eps) {
  const Stream stream = tape.stream();
  const Tensor rows = x.value().Reshape({-1, x.dim(-1)});
  Tensor y = Tensor::EmptyLike(rows);
  Tensor rstd = Tensor::Empty({rows.dim(0)}, AccumulationType(x.dtype()), rows.device());
  ops::RmsNormFwd({.x = rows.Ref(),
                   .w = weight.value.Ref(),
                   .y = y.MutableRef(),
                   .rstd = rstd.MutableRef(),
                   .eps = eps},
                  stream);
  return tape.Record("rms_norm", {x}, {&weight}, y.Reshape(x.shape()),
                     [stream, &weight, x = SavedTensor(rows), w = SavedValue(weight),
                      rstd = SavedTensor(rstd)](GradContext& g) {
                       const Shape& shape = x.get().shape();
                       const Tensor sum = g.TakeSum(0);  // of a residual connection around the norm
                       Tensor dx = sum.unique() ? sum.Reshape(shape) : Tensor::EmptyLike(x.get());
                       ops::RmsNormBwd(
                           {.x = x.get().Ref(),
                            .w = w.get().Ref(),
                            .rstd = rstd.get().Ref(),
                            .dy = g.dy().Reshape(shape).Ref(),
                            .add = sum.defined() ? sum.Reshape(shape).Ref() : TensorRef(),
                            .dx = dx.MutableRef(),
                            .dw = weight.grad.MutableRef()},
                           stream);
                       g.Set(0, dx.Reshape(g.dy().shape()));
                     });
}

}  // namespace lacuna
