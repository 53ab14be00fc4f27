#include "recipes/plan/memory.h"

#include <algorithm>
#include <numeric>

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
// Of the keys and values a rank keeps those of all ranks that share the sample.
Kept AttentionKept(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  const double keys = Real(m.num_groups * m.head_dim_qk),
               values = Real(m.num_groups * m.head_dim_v), ranks = Real(recipe.parallel.context),
               seen = ranks * KeysAndValues(recipe);
  const double q = Real(m.num_heads * m.head_dim_qk), o = Real(m.num_heads * m.head_dim_v),
               heads = Real(m.num_heads);
  Kept kept{.compute = Real(m.width) + q + (m.qk_norm ? q : 0), .accumulation = 1, .ids = 0};
  if (!recipe.uses_nsa())
    return kept +
           Kept{.compute = seen + o + (m.qk_norm ? keys : 0), .accumulation = heads, .ids = 0};
  const NsaConfig& nsa = recipe.nsa;
  const double stride = Real(nsa.stride);
  // Three branches of keys, values and outputs; gates; the gated sum.
  kept = kept + Kept{.compute = seen + 3 * o + o + 3 * heads + (m.qk_norm ? 3 * keys : 0),
                     .accumulation = 3 * heads,
                     .ids = Real(m.num_groups * nsa.num_selected)};
  // A compressed block every `stride` tokens: the gathered block, the hidden layer before and after
  // its activation, the result.
  const double hidden = nsa.phi == PhiKind::kMlp ? 2 * Real(nsa.phi_hidden) : 0;
  const double gathered = nsa.phi == PhiKind::kMean ? 0 : Real(nsa.block);
  return kept + Kept{.compute = ranks * (keys + values) * (gathered + hidden + 1) / stride,
                     .accumulation = 0,
                     .ids = 0};
}

// `rows`: those of the experts, over what a rank gets on average.
Kept FeedForwardKept(const Recipe& recipe, bool dense, double rows) {
  const double width = Real(recipe.model.width);
  const auto swiglu = [](int64_t hidden) { return 3 * Real(hidden); };
  if (dense)
    return {.compute = width + swiglu(recipe.model.dense_width), .accumulation = 1, .ids = 0};
  const MoeConfig& e = recipe.moe;
  const double chosen = Real(e.experts_per_token);
  return {.compute = width + swiglu(e.num_shared * e.expert_width) +
                     rows * chosen * 2 * Real(e.expert_width),
          .accumulation = 1 + 2 * Real(e.num_experts) + chosen,
          .ids = 2 * chosen};
}

// What a layer of experts works with in its backward pass and does not keep: the rows' gradients
// before and behind them, and the weighted activations.
Kept ExpertsAtWork(const Recipe& recipe, double rows) {
  const MoeConfig& e = recipe.moe;
  return {
      .compute = rows * Real(e.experts_per_token) * Real(2 * recipe.model.width + e.expert_width),
      .accumulation = 0,
      .ids = 0};
}

// Tokens kept of one layer under the recipe's recompute policy.
Kept LayerKept(const Recipe& recipe, bool dense, double rows) {
  const RecomputePolicy& policy = recipe.train.recompute;
  // the residual stream before both modules
  Kept kept{.compute = 2 * Real(recipe.model.width), .accumulation = 0, .ids = 0};
  if (policy.block) return {.compute = Real(recipe.model.width), .accumulation = 0, .ids = 0};
  if (!policy.attention) kept = kept + AttentionKept(recipe);
  if (!policy.feed_forward) kept = kept + FeedForwardKept(recipe, dense, rows);
  return kept;
}

// Rows of a rank in a micro-batch.
double OwnRows(const Recipe& recipe) {
  return Real(recipe.train.micro_batch) * Real(recipe.train.sequence_length) /
         Real(recipe.parallel.context);
}

// As they arrive, and in the order of the sample.
double ContextBytes(const Recipe& recipe) {
  const double ranks = Real(recipe.parallel.context);
  if (ranks == 1) return 0;
  return 2 * ranks * OwnRows(recipe) * KeysAndValues(recipe) * Real(SizeOf(recipe.train.dtype));
}

// Rows of a layer on their way, in both directions at once: sent and received, of the tokens and of
// the experts' results (in backward, of their gradients). What the experts read stays until
// backward.
double AllToAllBytes(const Recipe& recipe, double overload) {
  if (recipe.parallel.expert == 1) return 0;
  const RecomputePolicy& policy = recipe.train.recompute;
  const double sent = OwnRows(recipe) * ExpectedDestinations(recipe) * Real(recipe.model.width) *
                      Real(SizeOf(recipe.train.dtype));
  const bool kept = !policy.block && !policy.feed_forward;
  const double layers = kept ? Real(recipe.model.num_layers - recipe.model.num_dense_layers) : 1;
  return 2 * (sent + overload * sent) + layers * overload * sent;
}

// Buckets that fill while another travels; a parameter is never cut. Experts that several ranks have
// fill buckets of their own where other ranks have other experts. Of the weights, two blocks' or the
// head's.
double ShardingBytes(const Recipe& recipe, int64_t ranks) {
  if (recipe.parallel.zero == 0 || ranks == 1) return 0;
  const ModelConfig& m = recipe.model;
  const DType dtype = recipe.train.dtype;
  const ParameterCounts n = CountParameters(recipe);
  const double head = Real(m.vocab_size * m.width),
               bucket = Real(recipe.train.bucket_mb) * (1 << 20),
               wide = Real(SizeOf(AccumulationType(dtype)));
  const RankShares shares = SharesOf(recipe, ranks);
  // The gates' and the ups' matrix of a layer's experts on this rank.
  const double layers = Real(std::max<int64_t>(1, m.num_layers - m.num_dense_layers)),
               matrix = shares.expert_replicas > 1 ? Real(shares.experts) / layers * 2 / 3 : 0;
  double gradients = bucket + std::max({bucket, head * wide, matrix * wide});
  if (recipe.parallel.expert > 1 && matrix > 0) gradients += std::max(bucket, matrix * wide);
  if (recipe.parallel.zero < 3) return gradients;
  const double shared = Real(n.shared_experts + n.router) /
                        Real(std::max<int64_t>(1, m.num_layers - m.num_dense_layers)),
               dense = Real(n.dense_ffn) / Real(std::max<int64_t>(1, m.num_dense_layers));
  const double block =
      Real(n.attention + n.nsa + n.norms) / Real(m.num_layers) + std::max(shared, dense);
  return gradients + std::max(2 * block, head) * Real(SizeOf(dtype));
}

}  // namespace

DType MomentsOf(const Recipe& recipe) {
  return recipe.optimizer.moments == MomentType::kBF16 ? DType::kBF16
                                                       : AccumulationType(recipe.train.dtype);
}

RankMemory EstimateMemory(const Recipe& recipe, int64_t ranks, double overload) {
  if (ranks == 0) ranks = std::lcm(recipe.parallel.expert, recipe.parallel.context);
  const RankShares shares = SharesOf(recipe, ranks);
  const int64_t updated = shares.expert_updates + shares.other_updates;
  const double over = recipe.parallel.expert > 1 ? overload : 1;
  const DType dtype = recipe.train.dtype, accumulation = AccumulationType(dtype);
  const int64_t wide = SizeOf(accumulation), narrow = SizeOf(dtype);
  RankMemory memory;
  memory.weights = (shares.experts + shares.other_weights) * narrow;
  memory.gradients = updated * wide;
  memory.master = dtype == accumulation ? 0 : updated * wide;
  memory.moments = 2 * updated * SizeOf(MomentsOf(recipe));
  memory.all_to_all = static_cast<int64_t>(AllToAllBytes(recipe, over));
  memory.context = static_cast<int64_t>(ContextBytes(recipe));
  memory.sharding = static_cast<int64_t>(ShardingBytes(recipe, ranks));

  const ModelConfig& m = recipe.model;
  const double rows = OwnRows(recipe);
  const auto bytes = [&](const Kept& kept) {
    return rows * (kept.compute * Real(narrow) + kept.accumulation * Real(wide) + kept.ids * 4);
  };
  // around the final norm
  double kept = bytes({.compute = 2 * Real(m.width), .accumulation = 1, .ids = 0});
  kept += Real(m.num_dense_layers) * bytes(LayerKept(recipe, true, over));
  kept += Real(m.num_layers - m.num_dense_layers) * bytes(LayerKept(recipe, false, over));
  memory.activations = static_cast<int64_t>(kept);

  // The head is done before the first recomputed segment lives, and segments live one at a time:
  // activations and a few gradients.
  const RecomputePolicy& policy = recipe.train.recompute;
  const double attention = bytes(AttentionKept(recipe));
  const double dense = m.num_dense_layers > 0 ? bytes(FeedForwardKept(recipe, true, over)) : 0;
  const double experts = recipe.uses_moe() ? bytes(ExpertsAtWork(recipe, over)) : 0;
  const double feed_forward =
      recipe.uses_moe() ? std::max(dense, bytes(FeedForwardKept(recipe, false, over)) + experts)
                        : dense;
  // The last block's attention is formed again when what its feed-forward layer kept is gone.
  const double last = bytes(FeedForwardKept(recipe, !recipe.uses_moe(), over)),
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
