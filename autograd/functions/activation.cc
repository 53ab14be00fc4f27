#include "autograd/functions/activation.h"

#include "core/ops/elementwise.h"
#include "core/ops/swiglu.h"

namespace lacuna {

Variable Add(Tape& tape, const Variable& a, const Variable& b) {
  Tensor y;
  if (a.value().is_meta() || b.value().is_meta()) {
    y = Tensor::MetaLike(a.value());
  } else {
    y = Tensor::EmptyLike(a.value());
    ops::Add({.a = a.value().Ref(), .b = b.value().Ref(), .y = y.MutableRef()}, tape.stream());
  }
  return tape.Record("add", {a, b}, {}, std::move(y), [](GradContext& g) {
    g.Set(0, g.dy());
    g.Set(1, g.dy());
  });
}

namespace {

Variable SigmoidInto(Tape& tape, const Variable& x, DType dtype) {
  const Stream stream = tape.stream();
  const DType input = x.dtype();
  Tensor y = Tensor::Empty(x.shape(), dtype, x.value().device());
  ops::SigmoidFwd({.x = x.value().Ref(), .y = y.MutableRef()}, stream);
  const SavedTensor saved(y);
  return tape.Record("sigmoid", {x}, {}, std::move(y), [stream, saved, input](GradContext& g) {
    Tensor dx = Tensor::Empty(g.dy().shape(), input, g.dy().device());
    ops::SigmoidBwd({.y = saved.get().Ref(), .dy = g.dy().Ref(), .dx = dx.MutableRef()}, stream);
    g.Set(0, std::move(dx));
  });
}

}  // namespace

Variable Sigmoid(Tape& tape, const Variable& x) {
  return SigmoidInto(tape, x, x.dtype());
}

Variable Gate(Tape& tape, const Variable& x) {
  return SigmoidInto(tape, x, AccumulationType(x.dtype()));
}

Variable SwiGlu(Tape& tape, const Variable& x) {
  const Stream stream = tape.stream();
  Tensor h = Tensor::Empty({x.dim(0), x.dim(1) / 2}, x.dtype(), x.value().device());
  ops::SwiGluFwd({.x = x.value().Ref(), .h = h.MutableRef()}, stream);
  return tape.Record(
      "swiglu", {x}, {}, std::move(h), [stream, x = SavedTensor(x.value())](GradContext& g) {
        Tensor dx = Tensor::EmptyLike(x.get());
        ops::SwiGluBwd({.x = x.get().Ref(), .dh = g.dy().Ref(), .dx = dx.MutableRef()}, stream);
        g.Set(0, std::move(dx));
      });
}

Variable Reshape(Tape& tape, const Variable& x, Shape shape) {
  const Shape original = x.shape();
  return tape.Record("reshape", {x}, {}, x.value().Reshape(std::move(shape)),
                     [original](GradContext& g) { g.Set(0, g.dy().Reshape(original)); });
}

}  // namespace lacuna
