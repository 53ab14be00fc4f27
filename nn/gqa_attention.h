// Causal grouped-query attention (Ainslie et al., 2023) with Dk != Dv, half-split RoPE and optional
// QK-norm.
//   q = norm(x Wq), k = norm(x Wk), v = x Wv;   o = Wo attention(RoPE(q), RoPE(k), v), scale
//     Dk^-1/2
// QK-norm is an RMS norm over each head, before RoPE.
#pragma once

#include "nn/attention.h"
#include "nn/attention_spec.h"
#include "nn/decode_step.h"

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
    Variable q, k, v;  // [N, heads, D]
  };
  Projected Project(Tape& tape, const Variable& x);
  Projected Rotate(Tape& tape, Projected p, const Tensor& positions) const;  // q and k

  AttentionSpec spec_;
  double scale_;
  Parameter *q_proj_, *k_proj_, *v_proj_, *q_norm_ = nullptr, *k_norm_ = nullptr, *o_proj_;
  AddressTable addresses_;
};

// x W^T in heads [N, heads, D], RMS-normalised by head where `norm` is not null.
Variable ProjectHeads(Tape& tape, const Variable& x, Parameter& weight, int64_t head_dim,
                      Parameter* norm, double norm_eps);
// Tokens of the longest of `caches` once each has its document of `tokens`.
int64_t LongestContinued(const PackedSequences& tokens, const std::vector<AttentionCache*>& caches);

}  // namespace lacuna
