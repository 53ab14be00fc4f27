// One pre-norm transformer block: x += attention(norm(x)); x += feed_forward(norm(x)).
#pragma once

#include <memory>
#include <string>

#include "nn/attention.h"

namespace lacuna {

// What recomputed attention keeps all the same.
enum class RecomputeKeeps {
  kNothing,    // but decisions
  kAttention,  // the outputs of attention's kernels, too, which then run forward once
};

// What of a block runs its forward again in backward instead of keeping activations.
struct RecomputePolicy {
  bool block = false;         // the whole block; the others then say nothing more
  bool attention = false;     // the attention module with its norm
  bool feed_forward = false;  // the feed-forward or MoE module with its norm
  RecomputeKeeps keeps = RecomputeKeeps::kNothing;

  bool recomputes_attention() const { return block || attention; }
  bool recomputes_feed_forward() const { return block || feed_forward; }
  bool keeps_attention() const { return keeps == RecomputeKeeps::kAttention; }
};

// Parameters: input_layernorm.weight [C], self_attn.*, post_attention_layernorm.weight [C], mlp.*
class TransformerBlock : public Module {
 public:
  TransformerBlock(int64_t width, double norm_eps, std::unique_ptr<Attention> attention,
                   std::unique_ptr<FeedForward> feed_forward, RecomputePolicy recompute);

  // x: [N, C] -> [N, C].
  Variable Forward(ForwardContext& ctx, const Variable& x);
  // The same on cached sequences, without gradients; see Attention::Extend.
  Tensor Extend(const Tensor& x, const PackedSequences& tokens,
                const std::vector<AttentionCache*>& caches, Stream stream);

  // Names the block in profiles, as layer `index` of its model.
  void set_index(int64_t index);

  Attention& attention() { return *attention_; }
  FeedForward& feed_forward() { return *feed_forward_; }

 private:
  Variable Run(ForwardContext& ctx, const Variable& x);
  // x + module(norm(x)).
  Variable AttentionPart(ForwardContext& ctx, const Variable& x);
  Variable FeedForwardPart(ForwardContext& ctx, const Variable& x);
  // The same, recomputed as the policy says.
  template <class M>
  Variable Branch(ForwardContext& ctx, const char* name, const Variable& x, Parameter& norm,
                  M& module, bool recompute);

  std::string attention_range_ = "attention", feed_forward_range_ = "feed-forward";
  double norm_eps_;
  RecomputePolicy recompute_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<FeedForward> feed_forward_;
  Parameter* attention_norm_;
  Parameter* feed_forward_norm_;
};

}  // namespace lacuna
