#include "recipes/plan/memory.h"

#include <algorithm>

#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

// What the rules of a layer save, per token: elements in the compute type and in the accumulation
// type (statistics), and i32 ids.
struct Kept {
  double compute = 0;
  double accumulation = 0;
  double ids = 0;
  Kept operator+(const Kept& other) const {
    return {compute + other.compute, accumulation + other.accumulation, ids + other.ids};
  }
};

double Real(int64_t n) {
  return static_cast<double>(n);
}

// Norm input and output, projections, attention; the block's input x is counted by whoever made it.
Kept AttentionKept(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  const double keys = Real(m.num_groups * m.head_dim_qk),
               values = Real(m.num_groups * m.head_dim_v);
  const double q = Real(m.num_heads * m.head_dim_qk), o = Real(m.num_heads * m.head_dim_v),
               heads = Real(m.num_heads);
  Kept kept{.compute = Real(m.width) + q + (m.qk_norm ? q : 0), .accumulation = 1, .ids = 0};
  if (!recipe.uses_nsa())
    return kept + Kept{.compute = keys + values + o + (m.qk_norm ? keys : 0),
                       .accumulation = heads,
                       .ids = 0};
  const NsaConfig& nsa = recipe.nsa;
  const double stride = Real(nsa.stride);
  // Three branches of keys, values and outputs; gates; the gated sum.
  kept = kept +
         Kept{.compute = 3 * (keys + values) + 3 * o + o + 3 * heads + (m.qk_norm ? 3 * keys : 0),
              .accumulation = 3 * heads,
              .ids = Real(m.num_groups * nsa.num_selected)};
  // A compressed block every `stride` tokens: the gathered block, the hidden layer before and after
  // its activation, the result.
  const double hidden = nsa.phi == PhiKind::kMlp ? 2 * Real(nsa.phi_hidden) : 0;
  const double gathered = nsa.phi == PhiKind::kMean ? 0 : Real(nsa.block);
  return kept + Kept{.compute = (keys + values) * (gathered + hidden + 1) / stride,
                     .accumulation = 0,
                     .ids = 0};
}

Kept FeedForwardKept(const Recipe& recipe, bool dense) {
  const double width = Real(recipe.model.width);
  const auto swiglu = [](int64_t hidden) { return 3 * Real(hidden); };
  if (dense)
    return {.compute = width + swiglu(recipe.model.dense_width), .accumulation = 1, .ids = 0};
  const MoeConfig& e = recipe.moe;
  const double chosen = Real(e.experts_per_token);
  return {
      .compute = width + swiglu(e.num_shared * e.expert_width) + chosen * 2 * Real(e.expert_width),
      .accumulation = 1 + 2 * Real(e.num_experts) + chosen,
      .ids = 2 * chosen};
}

// What a layer of experts works with in its backward pass and does not keep: the rows' gradients
// before and behind them, and the weighted activations.
Kept ExpertsAtWork(const Recipe& recipe) {
  const MoeConfig& e = recipe.moe;
  return {.compute = Real(e.experts_per_token) * Real(2 * recipe.model.width + e.expert_width),
          .accumulation = 0,
          .ids = 0};
}

// Tokens kept of one layer under the recipe's recompute policy.
Kept LayerKept(const Recipe& recipe, bool dense) {
  const RecomputePolicy& policy = recipe.train.recompute;
  // the residual stream before both modules
  Kept kept{.compute = 2 * Real(recipe.model.width), .accumulation = 0, .ids = 0};
  if (policy.block) return {.compute = Real(recipe.model.width), .accumulation = 0, .ids = 0};
  if (!policy.attention) kept = kept + AttentionKept(recipe);
  if (!policy.feed_forward) kept = kept + FeedForwardKept(recipe, dense);
  return kept;
}

}  // namespace

DType MomentsOf(const Recipe& recipe) {
  return recipe.optimizer.moments == MomentType::kBF16 ? DType::kBF16
                                                       : AccumulationType(recipe.train.dtype);
}

RankMemory EstimateMemory(const Recipe& recipe) {
  const int64_t parameters = CountParameters(recipe).total();
  const DType dtype = recipe.train.dtype, accumulation = AccumulationType(dtype);
  const int64_t wide = SizeOf(accumulation), narrow = SizeOf(dtype);
  RankMemory memory;
  memory.weights = parameters * narrow;
  memory.gradients = parameters * wide;
  memory.master = dtype == accumulation ? 0 : parameters * wide;
  memory.moments = 2 * parameters * SizeOf(MomentsOf(recipe));

  const ModelConfig& m = recipe.model;
  const double rows = Real(recipe.train.micro_batch) * Real(recipe.train.sequence_length);
  const auto bytes = [&](const Kept& kept) {
    return rows * (kept.compute * Real(narrow) + kept.accumulation * Real(wide) + kept.ids * 4);
  };
  // around the final norm
  double kept = bytes({.compute = 2 * Real(m.width), .accumulation = 1, .ids = 0});
  kept += Real(m.num_dense_layers) * bytes(LayerKept(recipe, true));
  kept += Real(m.num_layers - m.num_dense_layers) * bytes(LayerKept(recipe, false));
  memory.activations = static_cast<int64_t>(kept);

  // The head is done before the first recomputed segment lives, and segments live one at a time:
  // activations and a few gradients.
  const RecomputePolicy& policy = recipe.train.recompute;
  const double attention = bytes(AttentionKept(recipe));
  const double dense = m.num_dense_layers > 0 ? bytes(FeedForwardKept(recipe, true)) : 0;
  const double experts = recipe.uses_moe() ? bytes(ExpertsAtWork(recipe)) : 0;
  const double feed_forward =
      recipe.uses_moe() ? std::max(dense, bytes(FeedForwardKept(recipe, false)) + experts) : dense;
  // The last block's attention is formed again when what its feed-forward layer kept is gone.
  const double last = bytes(FeedForwardKept(recipe, !recipe.uses_moe())),
               gone = policy.feed_forward ? 0 : last;
  double segment =
      std::max(policy.attention ? attention - gone : 0, policy.feed_forward ? feed_forward : 0);
  if (policy.block) segment = attention + feed_forward;
  if (segment > 0) segment += bytes({.compute = 3 * Real(m.width), .accumulation = 0, .ids = 0});
  constexpr double kHeadChunk = 1024;  // of LinearCrossEntropy
  const double logits = std::min(rows, kHeadChunk) * Real(m.vocab_size) * Real(narrow);
  const double head = logits + bytes({.compute = Real(m.width), .accumulation = 1, .ids = 0});
  memory.transient = static_cast<int64_t>(std::max({head, segment, experts}));
  return memory;
}

}  // namespace lacuna
