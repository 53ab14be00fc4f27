// Bytes that a rank needs to train a recipe, from its sections alone.
#pragma once

#include <cstdint>

#include "recipes/plan/rank_shares.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// What a rank holds of the model follows section parallel (recipes/plan/rank_shares.h). Parameters are counted without the padding of
// the flat buffers (< 16 each), and nothing with the rounding of the allocator (up to an eighth of
// a block).
struct RankMemory {
  int64_t weights = 0;      // in train.dtype
  int64_t gradients = 0;    // f32 (f64 in an f64 run)
  int64_t master = 0;       // f32 copy of bf16 weights; 0 elsewhere
  int64_t moments = 0;      // two of AdamW, in optimizer.moments
  int64_t activations = 0;  // estimate: what the tape keeps of one micro-batch until backward
  // The rest is of the moment when most is held: the loss (logits of a chunk of tokens, the gradient
  // of its input), or the backward pass of the last layer's feed-forward module or attention,
  // recomputed as the recipe says. Estimates.
  int64_t transient = 0;
  // rows of tokens from other ranks, those that are kept until backward and those on their way; 0
  // where parallel.expert is 1
  int64_t all_to_all = 0;
  // keys and values of a layer on their way to the ranks that share a sample, and back; 0 where
  // parallel.context is 1
  int64_t context = 0;
  // gradients on their way to the ranks that own them (parallel.zero 2 and 3), weights gathered from
  // there (3)
  int64_t sharding = 0;
  int64_t states() const { return weights + gradients + master + moments; }
  int64_t total() const {
    return states() + activations + transient + all_to_all + context + sharding;
  }
};
// `ranks`: a multiple of parallel.expert and parallel.context; 0: the least. `overload`: rows that the fullest
// rank's experts get, over the mean; only parallel.expert > 1 has any.
RankMemory EstimateMemory(const Recipe& recipe, int64_t ranks = 0,
                          double overload = kPlannedOverload);

// What optimizer.moments is in this run.
DType MomentsOf(const Recipe& recipe);

}  // namespace lacuna
