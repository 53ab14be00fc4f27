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

Variable LanguageModel::Hidden(ForwardContext& ctx, const Tensor& ids) {
  LACUNA_CHECK(ids.rank() == 1 && ids.dim(0) == ctx.num_rows(),
               "{} token ids for {} rows of documents", ids.dim(0), ctx.num_rows());
  Variable x = Embedding(ctx.tape, ids, *embedding_);
  for (auto& block : blocks_) x = block->Forward(ctx, x);
  return RmsNorm(ctx.tape, x, *norm_, norm_eps_);
}

LinearCrossEntropyResult LanguageModel::Loss(ForwardContext& ctx, const Tensor& ids,
                                             const Tensor& targets, double scale) {
  const Variable hidden = Hidden(ctx, ids);
  const ModuleRange range("head and loss");
  return LinearCrossEntropy(ctx.tape, hidden, head(), targets, scale);
}

Tensor LanguageModel::Logits(ForwardContext& ctx, const Tensor& ids) {
  return Linear(ctx.tape, Hidden(ctx, ids), head()).value();
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
  Tensor x = Embedding(tape, ids, *embedding_).value();
  std::vector<AttentionCache*> layer(caches.size());
  for (size_t i = 0; i < blocks_.size(); ++i) {
    for (size_t s = 0; s < caches.size(); ++s) layer[s] = caches[s]->layers[i].get();
    x = blocks_[i]->Extend(x, tokens, layer, stream);
  }
  const Variable last(LastRows(x, tokens));
  return Linear(tape, RmsNorm(tape, last, *norm_, norm_eps_), head()).value();
}

}  // namespace lacuna
