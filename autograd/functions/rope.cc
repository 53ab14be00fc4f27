#include "autograd/functions/rope.h"

#include <utility>

#include "core/ops/rope.h"

namespace lacuna {
namespace {

// x rotated, in its own memory where nobody else sees it: what passes through is not moved then.
Tensor Rotated(Tensor x, const Tensor& positions, const Tensor& cos, const Tensor& sin,
               bool inverse, Stream stream) {
  Tensor y = x.unique() ? x : Tensor::EmptyLike(x);
  ops::Rope({.x = x.Ref(),
             .positions = positions.Ref(),
             .cos = cos.Ref(),
             .sin = sin.Ref(),
             .y = y.MutableRef(),
             .inverse = inverse},
            stream);
  return y;
}

}  // namespace

Variable Rope(Tape& tape, Variable x, const Tensor& positions, const RopeTable& table) {
  const Stream stream = tape.stream();
  const Tensor cos = table.cos(), sin = table.sin();
  Tensor y = Rotated(x.TakeValue(), positions, cos, sin, /*inverse=*/false, stream);
  return tape.Record("rope", {std::move(x)}, {}, std::move(y),
                     [stream, positions = SavedTensor(positions), cos = SavedTensor(cos),
                      sin = SavedTensor(sin)](GradContext& g) {
                       g.Set(0, Rotated(g.TakeDy(), positions.get(), cos.get(), sin.get(),
                                        /*inverse=*/true, stream));
                     });
}

}  // namespace lacuna
