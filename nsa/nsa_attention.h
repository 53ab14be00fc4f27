// Native Sparse Attention as a module (arXiv 2502.11089): one query, a key and a value projection
// for each branch, phi, a gate for each head and branch.
//   q = norm(x Wq);  k_c = norm_c(x Wk_c), v_c = x Wv_c for c in {cmp, slc, win};  gate = sigmoid(x
//     Wg^T), row 3h + c
//   y = Wo NsaOperator(...)
// QK-norm, if on, is an RMS norm over each head before RoPE; phi reads the normalised, unrotated
// key.
#pragma once

#include <functional>
#include <utility>

#include "nn/attention.h"
#include "nn/attention_spec.h"
#include "nn/decode_step.h"
#include "nsa/nsa_operator.h"

namespace lacuna {

// Parameters: q_proj.weight [H Dk, C], {cmp,slc,win}_k_proj.weight [G Dk, C],
// {cmp,slc,win}_v_proj.weight [G Dv, C], phi_k.*, phi_v.* (nsa/phi.h), gate_proj.weight [3H, C],
// o_proj.weight [C, H Dv]; with QK-norm q_norm.weight, {cmp,slc,win}_k_norm.weight [Dk].
// Metrics: <name>.gate_{cmp,slc,win} (mean gate), .selection_entropy (of the block scores, 1 =
// uniform), .window_overlap (share of the selected blocks that touch the window).
class NsaAttention : public Attention {
 public:
  NsaAttention(const AttentionSpec& spec, const NsaConfig& config);

  Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) override;
  std::unique_ptr<AttentionCache> NewCache() const override;
  Tensor Extend(const Tensor& x, const PackedSequences& tokens,
                const std::vector<AttentionCache*>& caches, Stream stream) override;

  // Called for every token that Extend takes as a decode step (all but prompts of several tokens on
  // an empty cache): the number of its cache and the lists of the blocks that its query selected
  // [1, G, n] on the host (nsa/select_blocks.h).
  using SelectionObserver = std::function<void(size_t cache, const Tensor& blocks)>;
  void set_selection_observer(SelectionObserver observer) { observer_ = std::move(observer); }

 private:
  // A step of caches[i] for i in `which` with the given rows of `in`, together.
  void Step(const NsaInputs& in, const PackedSequences& tokens,
            const std::vector<AttentionCache*>& caches, const std::vector<size_t>& which,
            const std::vector<int64_t>& rows, Stream stream, Tensor* o);
  NsaInputs Project(Tape& tape, const Variable& x);
  void Report(ForwardContext& ctx, const Tensor& gate, const NsaResult& result,
              const NsaGrid& grid) const;

  AttentionSpec spec_;
  NsaConfig config_;
  struct Branch {
    Parameter *k_proj, *v_proj, *k_norm = nullptr;
  };
  Parameter *q_proj_, *q_norm_ = nullptr, *gate_proj_, *o_proj_;
  Branch branches_[3];  // cmp, slc, win
  Phi phi_k_, phi_v_;
  AddressTable addresses_;
  SelectionObserver observer_;
};

}  // namespace lacuna
