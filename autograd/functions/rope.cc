#include "autograd/functions/rope.h"

#include "core/ops/rope.h"

namespace lacuna {

Variable Rope(Tape& tape, const Variable& x, const Tensor& positions, const RopeTable& table) {
  const Stream stream = tape.stream();
  const Tensor cos = table.cos(), sin = table.sin();
  Tensor y = Tensor::EmptyLike(x.value());
  ops::Rope({.x = x.value().Ref(),
             .positions = positions.Ref(),
             .cos = cos.Ref(),
             .sin = sin.Ref(),
             .y = y.MutableRef()},
            stream);
  return tape.Record("rope", {x}, {}, std::move(y),
                     [stream, positions = SavedTensor(positions), cos = SavedTensor(cos),
                      sin = SavedTensor(sin)](GradContext& g) {
                       Tensor dx = Tensor::EmptyLike(g.dy());
                       ops::Rope({.x = g.dy().Ref(),
                                  .positions = positions.get().Ref(),
                                  .cos = cos.get().Ref(),
                                  .sin = sin.get().Ref(),
                                  .y = dx.MutableRef(),
                                  .inverse = true},
                                 stream);
                       g.Set(0, std::move(dx));
                     });
}

}  // namespace lacuna
