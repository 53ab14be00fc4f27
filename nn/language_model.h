// Decoder-only language model: embedding, blocks, final norm, head (its own matrix, or the
// embedding's when tied).
#pragma once

#include <memory>
#include <vector>

#include "autograd/functions/linear_cross_entropy.h"
#include "nn/transformer_block.h"
#include "nn/weight_stages.h"

namespace lacuna {

// Decode state of the whole model for one sequence: one cache a layer.
struct SequenceCache {
  std::vector<std::unique_ptr<AttentionCache>> layers;
  int64_t length() const { return layers.empty() ? 0 : layers[0]->length(); }
};

// Parameters: embed_tokens.weight [V, C], layers.<i>.*, norm.weight [C], lm_head.weight [V, C]
// (absent when tied).
class LanguageModel : public Module {
 public:
  LanguageModel(int64_t vocabulary, int64_t width, double norm_eps, double init_std,
                bool tie_embeddings, std::vector<std::unique_ptr<TransformerBlock>> blocks);

  // Cross-entropy of `targets` [N] i32 (negative: no loss) given `ids` [N] i32; see
  // LinearCrossEntropy for `scale`.
  LinearCrossEntropyResult Loss(ForwardContext& ctx, const Tensor& ids, const Tensor& targets,
                                double scale);

  SequenceCache NewCache() const;
  // Appends document i of `tokens` (ids: [N] i32) to caches[i] and returns the logits [documents,
  // V] that follow its last token.
  // Every document has at least one token.
  Tensor Extend(const Tensor& ids, const PackedSequences& tokens,
                const std::vector<SequenceCache*>& caches, Stream stream);
  // Logits [N, V] of every row: evaluation of small inputs.
  Tensor Logits(ForwardContext& ctx, const Tensor& ids);

  // Parameters by stage: the embedding, each block, the final norm with the head.
  std::vector<std::vector<Parameter*>> StageParameters();
  // Is told of every pass from now on, and must outlive them; null: nobody.
  void set_weight_stages(WeightStages* stages) { stages_ = stages; }

  int64_t num_layers() const { return static_cast<int64_t>(blocks_.size()); }
  TransformerBlock& block(int64_t layer) { return *blocks_[static_cast<size_t>(layer)]; }
  int64_t vocabulary() const { return embedding_->shape[0]; }
  // Where its parameters are, and its inputs have to be.
  Device device() const { return embedding_->device(); }

 private:
  // Final normalised hidden states [N, C].
  Variable Hidden(ForwardContext& ctx, const Tensor& ids);
  // Between the work of one stage and the next.
  void BeginStage(Tape& tape, int64_t stage);
  void EndStages(Tape& tape);
  Parameter& head() { return head_ != nullptr ? *head_ : *embedding_; }

  double norm_eps_;
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
  Parameter* embedding_;
  Parameter* norm_;
  Parameter* head_ = nullptr;
  WeightStages* stages_ = nullptr;
};

}  // namespace lacuna
