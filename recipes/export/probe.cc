#include "recipes/export/probe.h"

#include <algorithm>

#include "core/random.h"
#include "data/token_corpus.h"
#include "nn/generation.h"

namespace lacuna {
namespace {

constexpr int64_t kLeastTokens = 256;
constexpr uint64_t kSeed = 20250216;

std::vector<int32_t> HeldOutTokens(const TokenCorpus& corpus, int64_t tokens) {
  std::vector<int32_t> ids;
  for (const TokenShard& shard : corpus.shards()) {
    const auto have = static_cast<int64_t>(ids.size());
    const int64_t n = std::min(tokens - have, shard.num_tokens());
    ids.resize(static_cast<size_t>(have + n));
    shard.Read(0, n, ids.data() + have);
  }
  return ids;
}

std::vector<int32_t> RandomTokens(int64_t vocabulary, int64_t tokens) {
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>(PhiloxUniform(kSeed, 0, i) * static_cast<double>(vocabulary));
  return ids;
}

std::vector<int32_t> Int32s(const Tensor& tensor) {
  return {tensor.data<int32_t>(), tensor.data<int32_t>() + tensor.numel()};
}

}  // namespace

int64_t DefaultProbeTokens(const Recipe& recipe, int64_t max_positions) {
  const NsaConfig& nsa = recipe.nsa;
  const int64_t wanted = recipe.uses_nsa()
                             ? std::max(kLeastTokens, (nsa.num_selected + 4) * nsa.select_block)
                             : kLeastTokens;
  return std::min(max_positions, wanted);
}

Probe ChooseProbe(const Recipe& recipe, const Tokenizer& tokenizer, int64_t tokens,
                  int64_t max_positions) {
  Probe probe;
  for (const ValidationConfig& set : recipe.data.validation) {
    std::vector<std::string> problems;
    const TokenCorpus corpus =
        TokenCorpus::Open(set.path, {recipe.model.vocab_size, tokenizer.hash()}, &problems);
    if (!problems.empty() || corpus.num_tokens() < tokens) continue;
    probe.origin = "held-out tokens of validation set " + set.name;
    probe.ids = HeldOutTokens(corpus, tokens);
    break;
  }
  if (probe.ids.empty()) {
    probe.origin = "random tokens";
    probe.ids = RandomTokens(tokenizer.vocab_size(), tokens);
  }
  // Lengths that no block size divides all of, the longest about half of the probe.
  for (const int64_t length : {tokens / 8, tokens / 4 + 1, tokens / 2 + 2}) {
    const int64_t most = std::clamp<int64_t>(max_positions - kGreedyTokens, 1, tokens);
    const int64_t n = std::clamp<int64_t>(length, 1, most);
    probe.prompts.emplace_back(probe.ids.begin(), probe.ids.begin() + n);
  }
  return probe;
}

ModelTrace TraceModel(BuiltModel& built, const Recipe& recipe, const std::vector<int32_t>& ids) {
  const auto tokens = static_cast<int64_t>(ids.size());
  DecisionLog log;
  Tape tape(Tape::Mode::kInference);
  tape.set_decision_log(&log);
  const PackedSequences sequences = PackedSequences::Single(tokens);
  ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = tokens};
  ModelTrace trace;
  trace.logits = built.model->Logits(ctx, Tensor::FromVector(ids, {tokens}));
  size_t next = 0;
  for (int64_t i = 0; i < recipe.model.num_layers; ++i) {
    LayerDecisions& layer = trace.layers.emplace_back();
    const bool has_experts = i >= recipe.model.num_dense_layers;
    LACUNA_CHECK(next + (recipe.uses_nsa() ? 1 : 0) + (has_experts ? 1 : 0) <= log.decisions.size(),
                 "layer {} took fewer decisions than expected", i);
    if (recipe.uses_nsa()) layer.blocks = Int32s(log.decisions[next++].at(0));
    if (has_experts) layer.experts = Int32s(log.decisions[next++].at(0));
  }
  LACUNA_CHECK(next == log.decisions.size(), "{} decisions in a forward pass, expected {}",
               log.decisions.size(), next);
  return trace;
}

std::vector<int32_t> ContinueGreedily(BuiltModel& built, const std::vector<int32_t>& prompt) {
  GenerationOptions options;
  options.max_tokens = kGreedyTokens;
  options.sampling.temperature = 0;
  return Generate(*built.model, {prompt}, options)[0];
}

}  // namespace lacuna
