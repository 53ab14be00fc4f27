#include "autograd/functions/linear_cross_entropy.h"

#include <algorithm>

#include "autograd/functions/logits_chunk.h"
#include "core/memory_category.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"

namespace lacuna {

int64_t LogitsChunk(int64_t row_bytes, Device device) {
  constexpr int64_t kCpuRows = 1024, kCudaBytes = int64_t{512} << 20, kTile = 128;
  if (device == kCpu) return kCpuRows;
  return std::max(kTile, kCudaBytes / row_bytes / kTile * kTile);
}

LinearCrossEntropyResult LinearCrossEntropy(Tape& tape, const Variable& x, Parameter& weight,
                                            const Tensor& targets, double scale, int64_t chunk) {
  const Stream stream = tape.stream();
  const Tensor& rows = x.value();
  const int64_t num_rows = rows.dim(0), vocabulary = weight.shape[0];
  const DType accumulation = AccumulationType(rows.dtype());
  const bool with_gradient = tape.recording();
  if (with_gradient && weight.on_grad_wanted) weight.on_grad_wanted(weight);
  const MemoryScope scope(MemoryCategory::kLogits);
  const Device device = rows.device();
  if (chunk == 0) chunk = LogitsChunk(vocabulary * SizeOf(rows.dtype()), device);
  Tensor row_loss = Tensor::Empty({num_rows}, accumulation, device);
  Tensor logits = Tensor::Empty({std::min(chunk, num_rows), vocabulary}, rows.dtype(), device);
  Tensor dx = with_gradient ? Tensor::EmptyLike(rows) : Tensor();
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
                 .c = weight.grad.MutableRef(),
                 .transpose_a = true,
                 .beta = 1},
                stream);
  }
  Tensor loss = Tensor::Empty({1}, accumulation, device);
  ops::Sum({.x = row_loss.Ref(), .result = loss.MutableRef(), .scale = scale}, stream);
  return {tape.Record("linear_cross_entropy", {x}, {&weight}, std::move(loss),
                      [dx](GradContext& g) {
                        LACUNA_CHECK(g.dy_is_one(),
                                     "the loss of linear_cross_entropy must be the root of the "
                                     "backward pass: its gradients are formed for a seed of one");
                        g.Set(0, dx);
                      }),
          std::move(row_loss)};
}

}  // namespace lacuna
