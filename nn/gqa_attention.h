// Causal grouped-query attention (Ainslie et al., 2023) with Dk != Dv, half-split RoPE and optional
// QK-norm.
//   q = norm(x Wq), k = norm(x Wk), v = x Wv;   o = Wo attention(RoPE(q), RoPE(k), v), scale
//     Dk^-1/2
// QK-norm is an RMS norm over each head, before RoPE.
#pragma once

#include <functional>

#include "nn/attention.h"
#include "nn/attention_spec.h"

namespace lacuna {

// Parameters: q_proj.weight [H Dk, C], k_proj.weight [G Dk, C], v_proj.weight [G Dv, C],
// o_proj.weight [C, H Dv]; with QK-norm q_norm.weight [Dk], k_norm.weight [Dk].
class GqaAttention : public Attention {
 public:
  explicit GqaAttention(const AttentionSpec& spec);

  Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) override;
  std::unique_ptr<AttentionCache> NewCache() const override;
  Tensor Extend(const Tensor& x, const PackedSequences& tokens,
                const std::vector<AttentionCache*>& caches, Stream stream) override;

 private:
  struct Projected {
    Variable q, k, v;  // [N, heads, D], q and k rotated
  };
  Projected Project(Tape& tape, const Variable& x, const Tensor& positions);

  AttentionSpec spec_;
  double scale_;
  Parameter *q_proj_, *k_proj_, *v_proj_, *q_norm_ = nullptr, *k_norm_ = nullptr, *o_proj_;
};

// x W^T in heads [N, heads, D], RMS-normalised by head where `norm` is not null.
Variable ProjectHeads(Tape& tape, const Variable& x, Parameter& weight, int64_t head_dim,
                      Parameter* norm, double norm_eps);
// f(i) for the i-th of `caches` caches, `work` multiply-adds each: in several threads on the CPU, on
// a device's stream one after the other.
void ForEachCache(Stream stream, int64_t caches, int64_t work,
                  const std::function<void(int64_t)>& f);
// Positions of `tokens` that continue sequences of the given lengths, [N] i32 on the tokens' device,
// made once for all layers; the length of the longest sequence then.
Tensor ContinuedPositions(const PackedSequences& tokens,
                          const std::vector<AttentionCache*>& caches);
int64_t LongestContinued(const PackedSequences& tokens, const std::vector<AttentionCache*>& caches);

}  // namespace lacuna
