// Cross-entropy of rows of logits, with the gradient left in place of the logits.
//   loss[n] = log(sum_v exp(logits[n, v])) - logits[n, targets[n]];   0 where targets[n] < 0 (no
//     loss)
//   with_gradient: logits[n, v] <- scale * (softmax(logits[n])[v] - [v == targets[n]]);   0 where
//     targets[n] < 0
// logits: [N, V]   targets: [N] i32 in [0, V) or negative   loss: [N] accumulation type, set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct CrossEntropyArgs {
  TensorRef logits, targets, loss;
  bool with_gradient = false;
  double scale = 1;
};

namespace cpu {
void CrossEntropy(const CrossEntropyArgs&, Stream);
}
namespace cuda {
void CrossEntropy(const CrossEntropyArgs&, Stream);
}
namespace ops {
void CrossEntropy(const CrossEntropyArgs&, Stream);
}

}  // namespace lacuna
