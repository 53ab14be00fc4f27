// The language-model head and its loss in one rule: the logits of a chunk of tokens exist, those of
// all tokens never do.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

struct LinearCrossEntropyResult {
  Variable loss;    // [1] accumulation type: scale * sum of row_loss
  Tensor row_loss;  // [N] accumulation type, 0 where the target is negative
};

// logits = x weight^T, x: [N, C], weight: [V, C]; targets: [N] i32, negative = no loss.
// scale: 1 / (unmasked tokens of the global batch), so that losses and gradients of micro-batches
// and ranks add up to the mean.
// On a recording tape the gradients are formed along with the loss: three matrix products in all and
// not four, and beside dx no more memory than the logits of `chunk` tokens (0: as many as 512 MiB
// hold on a card, where every chunk reads and writes all of dweight; 1024 on the CPU, whose caches
// they should fit). For that dweight is
// added to the parameter's gradient right away, as for a loss that is the root of the backward pass
// (Tape::BackwardFrom); a tape that runs backward from anything else is refused then.
LinearCrossEntropyResult LinearCrossEntropy(Tape& tape, const Variable& x, Parameter& weight,
                                            const Tensor& targets, double scale, int64_t chunk = 0);

}  // namespace lacuna
