#include "nn/language_model.h"

#include <utility>

#include "autograd/functions/embedding.h"
#include "autograd/functions/linear.h"
#include "autograd/functions/norm.h"
#include "core/profile_range.h"

namespace lacuna {
namespace {

// Row cu[i + 1] - 1 of x for every document i: [documents, C].
Tensor LastRows(const Tensor& x, const PackedSequences& tokens) {
  const auto& cu = tokens.host_cu_seqlens();
  Tensor last = Tensor::Empty({tokens.num_documents(), x.dim(1)}, x.dtype(), x.device());
  for (int64_t i = 0; i < tokens.num_documents(); ++i) {
    const int32_t begin = cu[static_cast<size_t>(i)], end = cu[static_cast<size_t>(i) + 1];
    LACUNA_CHECK(end > begin, "document {} has no tokens", i);
    last.Slice(i, i + 1).CopyFrom(x.Slice(end - 1, end));
  }
  return last;
}

}  // namespace

LanguageModel::LanguageModel(int64_t vocabulary, int64_t width, double norm_eps, double init_std,
                             bool tie_embeddings,
                             std::vector<std::unique_ptr<TransformerBlock>> blocks)
    : norm_eps_(norm_eps), blocks_(std::move(blocks)) {
  embedding_ = &AddParameter("embed_tokens.weight", {vocabulary, width}, Init::Normal(init_std));
  for (size_t i = 0; i < blocks_.size(); ++i) {
    AddModule("layers." + std::to_string(i), blocks_[i].get());
    blocks_[i]->set_index(static_cast<int64_t>(i));
  }
  norm_ = &AddParameter("norm.weight", {width}, Init::Ones(), /*weight_decay=*/false);
  if (!tie_embeddings)
    head_ = &AddParameter("lm_head.weight", {vocabulary, width}, Init::Normal(init_std));
}

std::vector<std::vector<Parameter*>> LanguageModel::StageParameters() {
  std::vector<std::vector<Parameter*>> stages{{embedding_}};
  for (auto& block : blocks_) {
    stages.emplace_back();
    block->ForEachParameter([&](Parameter& p) { stages.back().push_back(&p); });
  }
  stages.push_back({norm_, &head()});
  return stages;
}

// Backward turns round at the head, and reads no weight of the embedding.
void LanguageModel::BeginStage(Tape& tape, int64_t stage) {
  if (stages_ == nullptr) return;
  WeightStages* const stages = stages_;
  if (stage == 1) tape.AtBackward("end of weights", [=] { stages->End(); });
  if (stage >= 2) {
    const int64_t next = stage >= 3 ? stage - 2 : -1;
    tape.AtBackward("weights", [=] { stages->Begin(stage - 1, next); });
  }
  const bool last = stage == num_layers() + 1;
  stages->Begin(stage, !last ? stage + 1 : tape.recording() && stage > 1 ? stage - 1 : -1);
}

void LanguageModel::EndStages(Tape& tape) {
  if (stages_ != nullptr && !tape.recording()) stages_->End();
}

Variable LanguageModel::Hidden(ForwardContext& ctx, const Tensor& ids) {
  LACUNA_CHECK(ids.rank() == 1 && ids.dim(0) == ctx.num_rows(),
               "{} token ids for {} rows of documents", ids.dim(0), ctx.num_rows());
  int64_t stage = 0;
  BeginStage(ctx.tape, stage);
  Variable x = Embedding(ctx.tape, ids, *embedding_);
  for (auto& block : blocks_) {
    BeginStage(ctx.tape, ++stage);
    x = block->Forward(ctx, x);
  }
  BeginStage(ctx.tape, ++stage);
  return RmsNorm(ctx.tape, x, *norm_, norm_eps_);
}

LinearCrossEntropyResult LanguageModel::Loss(ForwardContext& ctx, const Tensor& ids,
                                             const Tensor& targets, double scale) {
  const Variable hidden = Hidden(ctx, ids);
  const ModuleRange range("head and loss");
  LinearCrossEntropyResult loss = LinearCrossEntropy(ctx.tape, hidden, head(), targets, scale);
  EndStages(ctx.tape);
  return loss;
}

Tensor LanguageModel::Logits(ForwardContext& ctx, const Tensor& ids) {
  const Variable hidden = Hidden(ctx, ids);
  Tensor logits = Linear(ctx.tape, hidden, head()).value();
  EndStages(ctx.tape);
  return logits;
}

SequenceCache LanguageModel::NewCache() const {
  SequenceCache cache;
  for (const auto& block : blocks_) cache.layers.push_back(block->attention().NewCache());
  return cache;
}

Tensor LanguageModel::Extend(const Tensor& ids, const PackedSequences& tokens,
                             const std::vector<SequenceCache*>& caches, Stream stream) {
  LACUNA_CHECK(static_cast<int64_t>(caches.size()) == tokens.num_documents(),
               "{} caches for {} documents", caches.size(), tokens.num_documents());
  Tape tape(Tape::Mode::kInference, stream);
  BeginStage(tape, 0);
  Tensor x = Embedding(tape, ids, *embedding_).value();
  std::vector<AttentionCache*> layer(caches.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    BeginStage(tape, static_cast<int64_t>(i) + 1);
    for (size_t s = 0; s < caches.size(); ++s) layer[s] = caches[s]->layers[i].get();
    x = blocks_[i]->Extend(x, tokens, layer, stream);
  }
  const Variable last(LastRows(x, tokens));
  BeginStage(tape, num_layers() + 1);
  Tensor logits = Linear(tape, RmsNorm(tape, last, *norm_, norm_eps_), head()).value();
  EndStages(tape);
  return logits;
}

}  // namespace lacuna
