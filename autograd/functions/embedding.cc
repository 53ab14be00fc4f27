#include "autograd/functions/embedding.h"

#include "core/ops/embedding.h"

namespace lacuna {

Variable Embedding(Tape& tape, const Tensor& ids, Parameter& weight) {
  const Stream stream = tape.stream();
  Tensor y =
      Tensor::Empty({ids.dim(0), weight.shape[1]}, weight.value.dtype(), weight.value.device());
  ops::EmbeddingFwd({.w = weight.value.Ref(), .ids = ids.Ref(), .y = y.MutableRef()}, stream);
  return tape.Record(
      "embedding", {}, {&weight}, std::move(y),
      [stream, &weight, ids = SavedTensor(ids)](GradContext& g) {
        ops::EmbeddingBwd(
            {.ids = ids.get().Ref(), .dy = g.dy().Ref(), .dw = weight.grad.MutableRef()}, stream);
      });
}

}  // namespace lacuna
