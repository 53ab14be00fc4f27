#include "moe/functions.h"

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "moe/grouped_matmul.h"
#include "moe/permute.h"

namespace lacuna {
namespace {

// x in `dtype`; x itself where it has it.
Tensor InType(const Tensor& x, DType dtype, Stream stream) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::Empty(x.shape(), dtype, x.device());
  ops::Cast({.x = x.Ref(), .y = y.MutableRef()}, stream);
  return y;
}

}  // namespace

Variable WideLinear(Tape& tape, const Variable& x, Parameter& weight) {
  const Stream stream = tape.stream();
  Tensor y =
      Tensor::Empty({x.dim(0), weight.shape[0]}, AccumulationType(x.dtype()), x.value().device());
  ops::MatMul(
      {.a = x.value().Ref(), .b = weight.value.Ref(), .c = y.MutableRef(), .transpose_b = true},
      stream);
  return tape.Record(
      "wide_linear", {x}, {&weight}, std::move(y),
      [stream, &weight, x = SavedTensor(x.value()), w = SavedTensor(weight.value)](GradContext& g) {
        const Tensor& dy = g.dy();
        if (g.needs(0)) {
          Tensor dx = Tensor::Empty(x.get().shape(), dy.dtype(), dy.device());
          ops::MatMul(
              {.a = dy.Ref(), .b = InType(w.get(), dy.dtype(), stream).Ref(), .c = dx.MutableRef()},
              stream);
          g.Set(0, InType(dx, x.get().dtype(), stream));
        }
        g.Defer([stream, &weight, x, dy] {
          ops::MatMul({.a = dy.Ref(),
                       .b = InType(x.get(), dy.dtype(), stream).Ref(),
                       .c = weight.grad.MutableRef(),
                       .transpose_a = true,
                       .beta = 1},
                      stream);
        });
      });
}

Variable PermuteRows(Tape& tape, const Variable& x, const Tensor& position) {
  const Stream stream = tape.stream();
  Tensor y = Tensor::Empty({position.numel(), x.dim(1)}, x.dtype(), x.value().device());
  ops::PermuteRows({.x = x.value().Ref(), .position = position.Ref(), .w = {}, .y = y.MutableRef()},
                   stream);
  return tape.Record(
      "permute_rows", {x}, {}, std::move(y),
      [stream, position = SavedTensor(position)](GradContext& g) {
        Tensor dx =
            Tensor::Empty({position.get().dim(0), g.dy().dim(1)}, g.dy().dtype(), g.dy().device());
        ops::UnpermuteRows(
            {.x = g.dy().Ref(), .position = position.get().Ref(), .w = {}, .y = dx.MutableRef()},
            stream);
        g.Set(0, std::move(dx));
      });
}

Variable UnpermuteRows(Tape& tape, const Variable& x, const Variable& weights,
                       const Tensor& position) {
  const Stream stream = tape.stream();
  Tensor y = Tensor::Empty({position.dim(0), x.dim(1)}, x.dtype(), x.value().device());
  ops::UnpermuteRows({.x = x.value().Ref(),
                      .position = position.Ref(),
                      .w = weights.value().Ref(),
                      .y = y.MutableRef()},
                     stream);
  return tape.Record(
      "unpermute_rows", {x, weights}, {}, std::move(y),
      [stream, position = SavedTensor(position), x = SavedTensor(x.value()),
       w = SavedTensor(weights.value())](GradContext& g) {
        const TensorRef p = position.get().Ref(), dy = g.dy().Ref();
        if (g.needs(0)) {
          Tensor dx = Tensor::EmptyLike(x.get());
          ops::PermuteRows({.x = dy, .position = p, .w = w.get().Ref(), .y = dx.MutableRef()},
                           stream);
          g.Set(0, std::move(dx));
        }
        if (g.needs(1)) {
          Tensor dw = Tensor::EmptyLike(w.get());
          ops::UnpermuteDw({.dy = dy, .x = x.get().Ref(), .position = p, .dw = dw.MutableRef()},
                           stream);
          g.Set(1, std::move(dw));
        }
      });
}

Variable GroupedLinear(Tape& tape, const Variable& x, Parameter& weight, const Tensor& offsets) {
  const Stream stream = tape.stream();
  Tensor y = Tensor::Empty({x.dim(0), weight.shape[1]}, x.dtype(), x.value().device());
  ops::GroupedMatMul({.x = x.value().Ref(),
                      .w = weight.value.Ref(),
                      .offsets = offsets.Ref(),
                      .y = y.MutableRef()},
                     stream);
  return tape.Record("grouped_linear", {x}, {&weight}, std::move(y),
                     [stream, &weight, x = SavedTensor(x.value()), w = SavedTensor(weight.value),
                      offsets = SavedTensor(offsets)](GradContext& g) {
                       if (g.needs(0)) {
                         Tensor dx = Tensor::EmptyLike(x.get());
                         ops::GroupedMatMul({.x = g.dy().Ref(),
                                             .w = w.get().Ref(),
                                             .offsets = offsets.get().Ref(),
                                             .y = dx.MutableRef(),
                                             .transpose_w = false},
                                            stream);
                         g.Set(0, std::move(dx));
                       }
                       g.Defer([stream, &weight, x, offsets, dy = g.dy()] {
                         ops::GroupedMatMulDw({.dy = dy.Ref(),
                                               .x = x.get().Ref(),
                                               .offsets = offsets.get().Ref(),
                                               .dw = weight.grad.MutableRef()},
                                              stream);
                       });
                     });
}

}  // namespace lacuna
