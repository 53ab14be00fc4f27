#include "autograd/functions/linear_cross_entropy.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"

namespace lacuna {
namespace {

// y *= factor, where the seed of the loss is not 1.
void Scale(Tensor& y, double factor) {
  if (factor == 1.0) return;
  DispatchFloat(y.dtype(), [&](auto tag) {
    using T = typename decltype(tag)::type;
    T* data = y.mutable_data<T>();
    for (int64_t i = 0; i < y.numel(); ++i)
      data[i] = Narrow<T>(static_cast<double>(Widen(data[i])) * factor);
  });
}

}  // namespace

LinearCrossEntropyResult LinearCrossEntropy(Tape& tape, const Variable& x, Parameter& weight,
                                            const Tensor& targets, double scale, int64_t chunk) {
  const Stream stream = tape.stream();
  const Tensor& rows = x.value();
  const int64_t num_rows = rows.dim(0), vocabulary = weight.shape[0];
  const DType accumulation = AccumulationType(rows.dtype());
  const bool with_gradient = tape.recording();
  Tensor row_loss = Tensor::Empty({num_rows}, accumulation);
  Tensor logits = Tensor::Empty({std::min(chunk, num_rows), vocabulary}, rows.dtype());
  Tensor dx, dw;
  if (with_gradient) {
    dx = Tensor::EmptyLike(rows);
    dw = Tensor::Zeros(weight.shape, accumulation);
  }
  for (int64_t begin = 0; begin < num_rows; begin += chunk) {
    const int64_t end = std::min(begin + chunk, num_rows);
    const Tensor x_chunk = rows.Slice(begin, end);
    Tensor logits_chunk = logits.Slice(0, end - begin);
    ops::MatMul({.a = x_chunk.Ref(),
                 .b = weight.value.Ref(),
                 .c = logits_chunk.MutableRef(),
                 .transpose_b = true},
                stream);
    Tensor loss_chunk = row_loss.Slice(begin, end);
    ops::CrossEntropy({.logits = logits_chunk.MutableRef(),
                       .targets = targets.Slice(begin, end).Ref(),
                       .loss = loss_chunk.MutableRef(),
                       .with_gradient = with_gradient,
                       .scale = scale},
                      stream);
    if (!with_gradient) continue;
    Tensor dx_chunk = dx.Slice(begin, end);
    ops::MatMul({.a = logits_chunk.Ref(), .b = weight.value.Ref(), .c = dx_chunk.MutableRef()},
                stream);
    ops::MatMul({.a = logits_chunk.Ref(),
                 .b = x_chunk.Ref(),
                 .c = dw.MutableRef(),
                 .transpose_a = true,
                 .beta = 1},
                stream);
  }
  double sum = 0;
  for (const double value : row_loss.ToDoubles()) sum += value;
  Variable loss = tape.Record(
      "linear_cross_entropy", {x}, {&weight}, Tensor::FromDoubles({sum * scale}, {1}, accumulation),
      [stream, &weight, dx, dw](GradContext& g) mutable {
        const double seed = g.dy().ToDoubles()[0];
        Scale(dx, seed);
        Scale(dw, seed);
        ops::Add({.a = weight.grad.Ref(), .b = dw.Ref(), .y = weight.grad.MutableRef()}, stream);
        g.Set(0, dx);
      });
  return {std::move(loss), std::move(row_loss)};
}

}  // namespace lacuna
