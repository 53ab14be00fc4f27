#include "recipes/plan/memory.h"

#include <algorithm>
#include <numeric>

#include "autograd/functions/logits_chunk.h"
#include "recipes/plan/layer_memory.h"
#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

double Real(int64_t n) {
  return static_cast<double>(n);
}

// Rows of a rank in a micro-batch.
double OwnRows(const Recipe& recipe) {
  return Real(recipe.train.micro_batch) * Real(recipe.train.sequence_length) /
         Real(recipe.parallel.context);
}

// Keys and values as they arrive, and in the order of the sample.
double ContextBytes(const Recipe& recipe) {
  const double ranks = Real(recipe.parallel.context);
  if (ranks == 1) return 0;
  return 2 * ranks * OwnRows(recipe) * KeysAndValues(recipe) * Real(SizeOf(recipe.train.dtype));
}

// What layers hold, in bytes of a micro-batch.
class Layers {
 public:
  Layers(const Recipe& recipe, double overload)
      : recipe_(recipe),
        policy_(recipe.train.recompute),
        overload_(recipe.parallel.expert > 1 ? overload : 1),
        rows_(OwnRows(recipe)) {}

  double Bytes(const TokenMemory& token) const { return rows_ * token.Bytes(recipe_.train.dtype); }
  double stream() const { return Bytes({.compute = Real(recipe_.model.width)}); }
  double rows() const { return rows_; }
  bool recomputes_attention() const { return policy_.recomputes_attention(); }
  bool recomputes_feed_forward() const { return policy_.recomputes_feed_forward(); }

  double Attention() const { return Bytes(AttentionKept(recipe_)); }
  // What of it a second forward makes.
  double RecomputedAttention() const {
    return Attention() - Bytes(AttentionNotRecomputed(recipe_));
  }
  double FeedForward(bool dense) const {
    return Bytes(dense ? DenseKept(recipe_) : ExpertsKept(recipe_, overload_));
  }
  double Received(bool dense) const { return dense ? 0 : Bytes(ReceivedKept(recipe_, overload_)); }
  double Work(bool dense) const {
    return Bytes(dense ? DenseWork(recipe_) : ExpertsWork(recipe_, overload_));
  }
  double Travelling(bool dense) const {
    return dense ? 0 : Bytes(ReceivedWork(recipe_, overload_));
  }

  // What a layer keeps until backward, without rows from other ranks.
  double Kept(bool dense) const {
    double kept = stream() * (policy_.block ? 1 : 2);
    kept += recomputes_attention() ? Bytes(AttentionNotRecomputed(recipe_)) : Attention();
    if (!recomputes_feed_forward()) return kept + FeedForward(dense);
    return kept + (dense ? 0 : Bytes(ExpertDecisions(recipe_)));
  }

 private:
  const Recipe& recipe_;
  const RecomputePolicy& policy_;
  double overload_, rows_;
};

// Buckets of a rank with shares of gradients (parallel.zero 2 and 3): where they are while backward
// is in the last layer.
struct Buckets {
  double head = 0;       // travels until the next one is full
  double filling = 0;    // the next one
  double attention = 0;  // those of a layer's attention, and the head where it still travels then
  double block = 0;      // those of a whole layer, of which a recomputed segment wants all at once
  double experts = 0;    // of a layer, where several ranks have them
  // Gathered by zero 3 for the loss (the head and the last layer), and for the last layer's backward.
  double loss_weights = 0, layer_weights = 0;
};

Buckets BucketsOf(const Recipe& recipe, int64_t ranks) {
  Buckets buckets;
  if (recipe.parallel.zero == 0 || ranks == 1) return buckets;
  const ModelConfig& m = recipe.model;
  const ParameterCounts n = CountParameters(recipe);
  const RankShares shares = SharesOf(recipe, ranks);
  const DType dtype = recipe.train.dtype;
  const double wide = Real(SizeOf(AccumulationType(dtype))),
               most = Real(recipe.train.bucket_mb) * (1 << 20), width = Real(m.width);
  const double layers = Real(std::max<int64_t>(1, m.num_layers - m.num_dense_layers)),
               head = Real(m.vocab_size) * width;
  buckets.head = head * wide;
  // From the last parameter back until it is large enough (nn/flat_layout.cc): the final norm, the
  // last layer's feed-forward module, its attention.
  const double hidden = recipe.uses_moe() ? Real(recipe.moe.num_shared * recipe.moe.expert_width)
                                          : Real(m.dense_width);
  const double router = recipe.uses_moe() ? Real(recipe.moe.num_experts) * width : 0;
  const double output = Real(m.num_heads * m.head_dim_v) * width;
  for (const double parameters : {width, hidden * width, 2 * hidden * width, router, output}) {
    if (buckets.filling >= most) break;
    buckets.filling += parameters * wide;
  }
  if (shares.expert_replicas > 1) buckets.experts = Real(shares.experts) / layers * wide;
  const double shared = Real(n.shared_experts + n.router) / layers,
               dense = Real(n.dense_ffn) / Real(std::max<int64_t>(1, m.num_dense_layers)),
               attention = Real(n.attention + n.nsa + n.norms) / Real(m.num_layers);
  const bool waits = 3 * hidden * width * wide < most;
  buckets.attention = attention * wide + (waits ? buckets.head : 0);
  // The first and the last one reach into other layers.
  buckets.block = (attention + (recipe.uses_moe() ? shared : dense)) * wide + most;
  if (recipe.parallel.zero < 3) return buckets;
  // A bucket at their ends reaches into other layers.
  const GatheredWeights gathered = GatheredBy(recipe);
  const double all = Real(n.total() - (recipe.parallel.expert > 1 ? n.routed_experts : 0));
  const auto weights = [&](double parameters) {
    return std::min(parameters + most / wide, all) * Real(SizeOf(dtype));
  };
  buckets.loss_weights = weights(gathered.head + gathered.layer);
  buckets.layer_weights = weights(gathered.layer * std::min(2.0, Real(m.num_layers)));
  return buckets;
}

// Held at one moment beside states and what all layers keep.
struct Moment {
  double transient = 0, travelling = 0, buckets = 0;
  double total() const { return transient + travelling + buckets; }
};

// The most of: the loss, and in the last layer's backward pass its feed-forward module and its
// attention. All later layers hold less.
Moment Largest(const Recipe& recipe, const Layers& layers, const Buckets& buckets) {
  const bool dense = !recipe.uses_moe();
  const double stream = layers.stream(), statistics = layers.Bytes({.accumulation = 1}),
               final_norm = 2 * stream + statistics;
  const RecomputePolicy& policy = recipe.train.recompute;
  const Device device{recipe.train.device == DeviceChoice::kCpu ? DeviceType::kCpu
                                                                : DeviceType::kCuda};
  const double row = Real(recipe.model.vocab_size) * Real(SizeOf(recipe.train.dtype)),
               chunk = Real(LogitsChunk(static_cast<int64_t>(row), device));
  const Moment loss{.transient = std::min(layers.rows(), chunk) * row + stream + statistics,
                    .buckets = buckets.head + buckets.loss_weights};

  // A block's backward pass has the stream between its modules, too, and then its gradient beside that
  // of the block's output.
  const double feed_forward = layers.FeedForward(dense), received = layers.Received(dense);
  Moment last{.transient = layers.Work(dense) - final_norm,
              .travelling = layers.Travelling(dense),
              .buckets = buckets.head + (policy.block ? buckets.block : buckets.filling) +
                         buckets.experts + buckets.layer_weights};
  if (layers.recomputes_feed_forward()) {
    last.transient += feed_forward;
    last.travelling += received;
  }
  if (policy.block) last.transient += layers.RecomputedAttention() + stream;

  Moment attention{.transient = layers.Bytes(AttentionWork(recipe)) - final_norm,
                   .buckets = (policy.block ? buckets.block + buckets.experts
                                            : buckets.filling + buckets.attention) +
                              buckets.layer_weights};
  if (!layers.recomputes_feed_forward()) {
    attention.transient -= feed_forward;
    attention.travelling -= received;
  }
  if (layers.recomputes_attention()) attention.transient += layers.RecomputedAttention();
  if (policy.block) attention.transient += stream;
  return std::max({loss, last, attention},
                  [](const Moment& a, const Moment& b) { return a.total() < b.total(); });
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
  const DType dtype = recipe.train.dtype, accumulation = AccumulationType(dtype);
  const int64_t wide = SizeOf(accumulation), narrow = SizeOf(dtype);
  RankMemory memory;
  memory.weights = (shares.expert_weights + shares.other_weights) * narrow;
  memory.gradients = updated * wide;
  memory.master = dtype == accumulation ? 0 : updated * wide;
  memory.moments = 2 * updated * SizeOf(MomentsOf(recipe));
  const Layers layers(recipe, overload);
  const ModelConfig& m = recipe.model;
  const double with_experts = Real(m.num_layers - m.num_dense_layers);
  // Around the final norm, and of the layers.
  memory.activations = static_cast<int64_t>(
      2 * layers.stream() + layers.Bytes({.accumulation = 1}) +
      Real(m.num_dense_layers) * layers.Kept(true) + with_experts * layers.Kept(false));
  const double received =
      layers.recomputes_feed_forward() ? 0 : with_experts * layers.Received(false);
  const Buckets buckets = BucketsOf(recipe, ranks);
  const Moment moment = Largest(recipe, layers, buckets);
  memory.transient = static_cast<int64_t>(moment.transient);
  memory.all_to_all = static_cast<int64_t>(received + moment.travelling);
  memory.context = static_cast<int64_t>(ContextBytes(recipe));
  memory.sharding = static_cast<int64_t>(moment.buckets);
  return memory;
}

}  // namespace lacuna
