#include "recipes/plan/step_time.h"

#include <algorithm>
#include <cmath>

#include "recipes/plan/memory.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/rank_shares.h"

namespace lacuna {
namespace {

double Real(int64_t n) {
  return static_cast<double>(n);
}

// The part of n ranks' bytes that travels in one direction.
double Others(int64_t n) {
  return Real(n - 1) / Real(n);
}

// What of the experts' all-to-alls runs beside compute. In every forward the shared experts' products,
// What of the experts' all-to-alls runs beside compute. In every forward the shared experts' products,
// two thirds of them under the way there, in the first one the last under the way home
// (moe/moe_layer.h); a second forward has no way home. Of a way in chunks there is one alone with them,
// the first or the last, and the others run under the experts' work on their neighbours. In backward
// weight gradients are held for both ways, and are taken for long enough.
double HiddenAllToAll(const Recipe& recipe, int64_t tokens, double all_to_all, double rate) {
  const double forwards = recipe.train.recompute.recomputes_feed_forward() ? 2 : 1,
               way = all_to_all / (forwards + 3);
  const double layers = Real(recipe.model.num_layers - recipe.model.num_dense_layers),
               shared = layers * Real(tokens) * 6 * Real(recipe.model.width) *
                        Real(recipe.moe.num_shared * recipe.moe.expert_width) / rate;
  const double chunk = way / Real(recipe.expert_chunks()),
               shown_there = std::max(0.0, chunk - shared * 2 / 3),
               shown_home = std::max(0.0, chunk - shared / 3);
  return forwards * (way - shown_there) + (way - shown_home) + 2 * way;
}

}  // namespace

StepTraffic TrafficOfStep(const Recipe& recipe, int64_t ranks) {
  const TrainConfig& train = recipe.train;
  const RankShares shares = SharesOf(recipe, ranks);
  const double context = Real(recipe.parallel.context),
               samples = Real(train.global_batch) * context / Real(ranks),
               micro_batches = samples / Real(train.micro_batch),
               tokens = samples / context * Real(train.sequence_length);
  const double wide = Real(SizeOf(AccumulationType(train.dtype))),
               narrow = Real(SizeOf(train.dtype));
  StepTraffic traffic;
  if (recipe.parallel.expert > 1) {
    const double layers = Real(recipe.model.num_layers - recipe.model.num_dense_layers),
                 way = layers * tokens * ExpectedRemoteDestinations(recipe) *
                       Real(recipe.model.width) * narrow;
    traffic.dispatch = (train.recompute.recomputes_feed_forward() ? 3 : 2) * way;
    traffic.combine = 2 * way;
  }
  if (recipe.parallel.context > 1) {
    const bool again = train.recompute.recomputes_attention();
    traffic.keys = (again ? 3 : 2) * Real(recipe.model.num_layers) * (context - 1) * tokens *
                   KeysAndValues(recipe) * narrow;
  }
  const bool whole_experts = recipe.parallel.expert == 1;
  const double gradients = Others(shares.share_ranks) * Real(shares.others) * wide,
               weights = Others(shares.share_ranks) * Real(shares.others) * narrow;
  traffic.gradient_sum = recipe.parallel.zero == 0 ? 2 * gradients : micro_batches * gradients;
  traffic.copy_sum = 2 * Others(shares.copies) * wide *
                     Real(shares.other_updates + (whole_experts ? shares.expert_updates : 0));
  const double experts =
      Real(shares.experts) * Others(whole_experts ? shares.share_ranks : shares.expert_replicas);
  traffic.expert_gradient_sum = (recipe.parallel.zero == 0 ? 2 : micro_batches) * experts * wide;
  if (recipe.parallel.zero == 2) traffic.weight_gather = weights + experts * narrow;
  if (recipe.parallel.zero == 3) {
    traffic.weight_gather =
        micro_batches * Others(shares.share_ranks) * GatheredBy(recipe).micro_batch * narrow;
    if (!whole_experts) traffic.weight_gather += experts * narrow;
  }
  return traffic;
}

double RecomputedFlopsPerToken(const Recipe& recipe, double overload) {
  const RecomputePolicy& policy = recipe.train.recompute;
  const ModelConfig& m = recipe.model;
  const ParameterCounts n = CountParameters(recipe);
  const TrainingFlops flops = FlopsPerToken(recipe);
  double matrices = 0, others = 0;
  if (policy.recomputes_attention()) {
    const int64_t phi = recipe.uses_nsa()
                            ? m.num_layers * (PhiParameters(recipe.nsa, m.head_dim_qk) +
                                              PhiParameters(recipe.nsa, m.head_dim_v))
                            : 0,
                  output = m.num_layers * m.num_heads * m.head_dim_v * m.width;
    matrices += Real(n.attention + n.nsa - phi - (policy.block ? 0 : output));
    others += (flops.phi + (policy.keeps_attention() ? 0 : flops.attention)) / 3;
  }
  if (policy.recomputes_feed_forward()) {
    const double routed = overload * Real(n.routed_experts - n.idle_experts);
    matrices += (Real(n.dense_ffn + n.shared_experts) + routed) * 2 / 3 + Real(n.router);
  }
  return 2 * matrices + others;
}

StepTime EstimateStep(const Recipe& recipe, int64_t ranks, double overload,
                      const PlannedDevice& device) {
  const TrainConfig& train = recipe.train;
  const StepTraffic traffic = TrafficOfStep(recipe, ranks);
  const double tokens = Real(train.global_batch) / Real(ranks) * Real(train.sequence_length);
  const ParameterCounts n = CountParameters(recipe);
  const double routed = 6 * Real(n.routed_experts - n.idle_experts),
               waiting = recipe.parallel.expert > 1 ? (overload - 1) * routed : 0;
  StepTime time;
  time.compute = tokens *
                 (FlopsPerToken(recipe).total() + waiting +
                  RecomputedFlopsPerToken(recipe, recipe.parallel.expert > 1 ? overload : 1)) /
                 (kMatMulShare * device.matmul);
  // Gradient, weights and moments are read, and all but the gradient written.
  const RankMemory memory = EstimateMemory(recipe, ranks, overload);
  time.optimizer =
      Real(memory.gradients + 2 * (memory.master + memory.moments) + memory.weights) / device.copy;
  time.all_to_all = traffic.all_to_all() / device.all_to_all;
  time.keys = traffic.keys / device.all_to_all;
  time.collectives = traffic.collectives() / device.collective;
  time.hidden =
      std::min(time.collectives, time.compute) +
      HiddenAllToAll(recipe, std::llround(tokens), time.all_to_all, kMatMulShare * device.matmul);
  return time;
}

}  // namespace lacuna
