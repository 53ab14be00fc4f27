// Embedding: rows of a table by token id.
//   y[n] = w[ids[n]];   dw[ids[n]] += dy[n], in an order that timing does not change
// w: [V, C]   ids: [N] i32 in [0, V), checked   y, dy: [N, C] in w's dtype   dw: [V, C]
//   accumulation type, accumulated.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct EmbeddingFwdArgs {
  TensorRef w, ids, y;
};
struct EmbeddingBwdArgs {
  TensorRef ids, dy, dw;
};

namespace cpu {
void EmbeddingFwd(const EmbeddingFwdArgs&, Stream);
void EmbeddingBwd(const EmbeddingBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void EmbeddingFwd(const EmbeddingFwdArgs&, Stream);
void EmbeddingBwd(const EmbeddingBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void EmbeddingFwd(const EmbeddingFwdArgs&, Stream);
void EmbeddingBwd(const EmbeddingBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
