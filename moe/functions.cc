#include "moe/functions.h"

#include "autograd/saved_value.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"
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
      [stream, &weight, x = SavedTensor(x.value()), w = SavedValue(weight)](GradContext& g) {
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

namespace {

// What RoutedExperts' products work on, forward and backward.
struct ExpertPass {
  Stream stream;
  RoutedRows rows;

  Tensor New(int64_t columns, const Tensor& like) const {
    return Tensor::Empty({rows.count(), columns}, like.dtype(), like.device());
  }
  // x [N, C] by expert.
  Tensor ByExpert(const Tensor& x) const {
    Tensor y = New(x.dim(1), x);
    ops::PermuteRows({.x = x.Ref(), .position = rows.position.Ref(), .y = y.MutableRef()}, stream);
    return y;
  }
  // The sum of a token's rows, weighted where w is defined.
  Tensor ByToken(const Tensor& x, const Tensor& w) const {
    Tensor y = Tensor::Empty({rows.position.dim(0), x.dim(1)}, x.dtype(), x.device());
    ops::UnpermuteRows({.x = x.Ref(),
                        .position = rows.position.Ref(),
                        .w = w.defined() ? w.Ref() : TensorRef{},
                        .y = y.MutableRef()},
                       stream);
    return y;
  }
  // x w^T, or x w.
  Tensor Product(const Tensor& x, const Tensor& w, bool transpose_w) const {
    Tensor y = New(w.dim(transpose_w ? 1 : 2), x);
    ops::GroupedMatMul({.x = x.Ref(),
                        .w = w.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .y = y.MutableRef(),
                        .transpose_w = transpose_w},
                       stream);
    return y;
  }
  void AddGradient(const Tensor& dy, const Tensor& x, Parameter& weight) const {
    ops::GroupedMatMulDw({.dy = dy.Ref(),
                          .x = x.Ref(),
                          .offsets = rows.offsets.Ref(),
                          .dw = weight.grad.MutableRef(),
                          .accumulate = weight.AddsGradient()},
                         stream);
  }
};

}  // namespace

Variable RoutedExperts(Tape& tape, const Variable& x, const Variable& weights,
                       const RoutedRows& rows, Parameter& gate_up, Parameter& down,
                       bool y_is_read) {
  const ExpertPass pass{tape.stream(), rows};
  Tensor z = pass.New(gate_up.shape[1], x.value());
  const auto forward = [&] {
    Tensor h = pass.New(down.shape[2], x.value());
    ops::GroupedSwiGlu({.x = pass.ByExpert(x.value()).Ref(),
                        .w = gate_up.value.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .z = z.MutableRef(),
                        .h = h.MutableRef()},
                       pass.stream);
    return y_is_read ? pass.Product(h, down.value, /*transpose_w=*/true) : Tensor();
  };
  Tensor y = Tensor::MetaLike(x.value());
  if (const Tensor rows_y = forward(); y_is_read) y = pass.ByToken(rows_y, weights.value());
  return tape.Record(
      "routed_experts", {x, weights}, {&gate_up, &down}, std::move(y),
      [stream = tape.stream(), &gate_up, &down, x = SavedTensor(x.value()),
       weights = SavedTensor(weights.value()), offsets = SavedTensor(rows.offsets),
       position = SavedTensor(rows.position), up_w = SavedValue(gate_up), down_w = SavedValue(down),
       z, num_choices = rows.num_choices](GradContext& g) mutable {
        const ExpertPass pass{stream, {offsets.get(), position.get(), num_choices}};
        const Tensor dy = pass.ByExpert(g.dy());
        // The gradient of z takes its place: nothing else reads it.
        Tensor dz = std::move(z), wh = pass.New(down.shape[2], dy),
               dweights = Tensor::EmptyLike(weights.get());
        ops::RoutedSwiGluBwd({.dy = dy.Ref(),
                              .down = down_w.get().Ref(),
                              .offsets = pass.rows.offsets.Ref(),
                              .z = dz.Ref(),
                              .position = pass.rows.position.Ref(),
                              .w = weights.get().Ref(),
                              .dz = dz.MutableRef(),
                              .wh = wh.MutableRef(),
                              .dw = dweights.MutableRef()},
                             pass.stream);
        if (g.needs(1)) g.Set(1, std::move(dweights));
        if (g.needs(0))
          g.Set(0, pass.ByToken(pass.Product(dz, up_w.get(), /*transpose_w=*/false), {}));
        g.Defer([pass, &gate_up, &down, dy, wh, dz, x] {
          pass.AddGradient(dy, wh, down);
          pass.AddGradient(dz, pass.ByExpert(x.get()), gate_up);
        });
      });
}

}  // namespace lacuna
