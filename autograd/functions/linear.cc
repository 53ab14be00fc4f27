#include "autograd/functions/linear.h"

#include <utility>

#include "autograd/saved_value.h"
#include "core/ops/matmul.h"

namespace lacuna {

namespace {

Tensor Product(const Tensor& x, const Parameter& weight, const Variable& added, Shape shape,
               Stream stream) {
  Tensor y = Tensor::Empty(std::move(shape), x.dtype(), x.device());
  ops::MatMul({.a = x.Ref(),
               .b = weight.value.Ref(),
               .add = added.defined() ? added.value().Ref() : TensorRef(),
               .c = y.MutableRef(),
               .transpose_b = true},
              stream);
  return y;
}

}  // namespace

Variable Linear(Tape& tape, const Variable& x, Parameter& weight, const Variable& added,
                bool y_is_read) {
  const Stream stream = tape.stream();
  Shape shape = x.shape();
  shape.back() = weight.shape[0];
  Tensor y = y_is_read ? Product(x.value(), weight, added, std::move(shape), stream)
                       : Tensor::Meta(std::move(shape), x.dtype(), x.value().device());
  return tape.Record(
      "linear", {x, added}, {&weight}, std::move(y),
      [stream, &weight, x = SavedTensor(x.value()), w = SavedValue(weight)](GradContext& g) {
        if (g.needs(0)) {
          // Other consumers' gradients are added in the product: several projections of one x.
          const Tensor sum = g.TakeSum(0);
          const bool in_place = sum.defined() && sum.unique();
          Tensor dx = in_place ? sum : Tensor::EmptyLike(x.get());
          ops::MatMul({.a = g.dy().Ref(),
                       .b = w.get().Ref(),
                       .add = sum.defined() && !in_place ? sum.Ref() : TensorRef(),
                       .c = dx.MutableRef(),
                       .beta = in_place ? 1.0 : 0.0},
                      stream);
          g.Set(0, std::move(dx));
        }
        g.Defer([stream, &weight, x, dy = g.dy()] {
          ops::MatMul({.a = dy.Ref(),
                       .b = x.get().Ref(),
                       .c = weight.grad.MutableRef(),
                       .transpose_a = true,
                       .beta = 1},
                      stream);
        });
        if (g.needs(1)) g.Set(1, g.dy());
      });
}

}  // namespace lacuna
