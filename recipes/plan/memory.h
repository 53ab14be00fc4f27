// Bytes that a rank needs to train a recipe, from its sections alone.
#pragma once

#include <cstdint>

#include "recipes/schema/recipe.h"

namespace lacuna {

// Data parallel: every rank holds the whole model. Parameters are counted without the padding of
// the flat buffers (< 16 each), and nothing with the rounding of the allocator (up to an eighth of
// a block).
struct RankMemory {
  int64_t weights = 0;      // in train.dtype
  int64_t gradients = 0;    // f32 (f64 in an f64 run)
  int64_t master = 0;       // f32 copy of bf16 weights; 0 elsewhere
  int64_t moments = 0;      // two of AdamW, in optimizer.moments
  int64_t activations = 0;  // estimate: what the tape keeps of one micro-batch until backward
  // estimate: the larger of the head (logits of a chunk of tokens, the gradient of its input) and a
  // recomputed segment
  int64_t transient = 0;
  int64_t total() const { return weights + gradients + master + moments + activations + transient; }
};
RankMemory EstimateMemory(const Recipe& recipe);

// What optimizer.moments is in this run.
DType MomentsOf(const Recipe& recipe);

}  // namespace lacuna
