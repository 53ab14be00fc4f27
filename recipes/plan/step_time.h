// What a rank sends in an optimizer step, and how long a step takes by a card's rates.
#pragma once

#include <cstdint>

#include "recipes/plan/device_table.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// Bytes that a rank sends to others in a step, N tokens a micro-batch on the rank, M micro-batches, R
// ranks.
//   dispatch, combine     M N (remote destinations) width (type) a layer of experts, forward and
//                         backward; dispatch once more where the layer is recomputed
//   keys                  (C - 1) / C of the keys and values of the C ranks' M C N tokens, every
//                         layer, and of their gradients; once more where attention is recomputed
//   gradient_sum          zero 0: 2 (R - 1) / R of the f32 gradients, once a step; zero 2 and 3:
//                         (R - 1) / R of them, every micro-batch
//   copy_sum              parallel.shard, R in its place: all-reduce of the shares' f32 gradients
//                         over the C ranks that have the same, 2 (C - 1) / C of them once a step
//   expert_gradient_sum   gradient_sum of this rank's experts', with G for R; G groups hold the same
//   weight_gather         zero 2: (R - 1) / R of the weights, and (G - 1) / G of this rank's
//                         experts', once a step; zero 3: (R - 1) / R of the weights forward and
//                         backward in every micro-batch (GatheredWeights), of experts as zero 2
//                         where parallel.expert is above 1
// Where gradients and weights do not say more, those of the parameters that are not experts.
struct StepTraffic {
  double dispatch = 0, combine = 0, keys = 0, gradient_sum = 0, copy_sum = 0,
         expert_gradient_sum = 0, weight_gather = 0;
  double all_to_all() const { return dispatch + combine; }  // of the experts
  double collectives() const {
    return gradient_sum + copy_sum + expert_gradient_sum + weight_gather;
  }
};
StepTraffic TrafficOfStep(const Recipe& recipe, int64_t ranks);

// Share of the product's rate that a whole model's forward and backward reaches, recomputation
// counted as work: a 27B model's rank with sparse attention on an H200, 8k tokens 0.60 and 32k 0.58;
// narrow models less, 0.41 at 300M parameters on an H100 (docs/benchmarks.md).
inline constexpr double kMatMulShare = 0.59;

// Floating-point operations of the second forward of what is recomputed, a token: a third of these
// layers' in FlopsPerToken, without attention where train.recompute_keeps has its outputs, and without
// the product that ends a segment, whose value nobody reads. `overload`: rows of the fullest rank's
// experts, over the mean.
double RecomputedFlopsPerToken(const Recipe& recipe, double overload = 1);

struct StepTime {
  double compute = 0;  // seconds; the fullest rank's experts set the pace of all
  double optimizer = 0;
  double all_to_all = 0;
  double keys =
      0;  // and values, on their way to the ranks that share a sample: nothing runs beside it
  double collectives = 0;
  // What runs beside compute: the collectives; of the experts' all-to-alls both ways of backward
  // (under weight gradients, taken for long enough), and of each way of forward all but what the
  // shared experts leave of one of parallel.expert_chunks chunks.
  double hidden = 0;
  double total() const { return compute + optimizer + all_to_all + keys + collectives - hidden; }
};
StepTime EstimateStep(const Recipe& recipe, int64_t ranks, double overload,
                      const PlannedDevice& device);

}  // namespace lacuna
