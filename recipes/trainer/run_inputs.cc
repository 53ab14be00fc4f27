#include "recipes/trainer/run_inputs.h"

#include "core/status.h"
#include "data/chat/chat_tokens.h"
#include "data/tokenizer/tokenizer.h"
#include "data/unigram.h"

namespace lacuna {
namespace {

// A line for each shard of conversations that were made with another template.
void CheckChat(const TokenCorpus& corpus, ChatTemplateKind kind,
               std::vector<std::string>* problems) {
  for (const TokenShard& shard : corpus.shards()) {
    const std::string& chat = shard.info().chat;
    const std::string name = chat.substr(0, chat.find(' '));
    if (chat.empty() || name == NameOf(kind)) continue;
    problems->push_back(
        fmt::format("{}: holds conversations made with chat template {}, the recipe's is {}",
                    shard.path(), name, NameOf(kind)));
  }
}

absl::Status CheckChat(const RunInputs& inputs, ChatTemplateKind kind) {
  std::vector<std::string> problems;
  if (kind == ChatTemplateKind::kNone) return absl::OkStatus();
  for (size_t i = 0; i < inputs.loader->source_names().size(); ++i)
    CheckChat(inputs.loader->corpus(i), kind, &problems);
  for (const auto& set : inputs.validation) CheckChat(set->corpus(), kind, &problems);
  return ProblemsError(problems);
}

}  // namespace

absl::StatusOr<RunInputs> OpenRunInputs(const Recipe& recipe, bool may_write_cache) {
  RunInputs inputs;
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(recipe.data.tokenizer));
  const int64_t vocab_size = recipe.model.vocab_size, length = recipe.train.sequence_length;
  if (tokenizer.vocab_size() > vocab_size) {
    return ConfigError("model.vocab_size = {}: the tokenizer {} has {} tokens", vocab_size,
                       recipe.data.tokenizer, tokenizer.vocab_size());
  }
  if (recipe.data.chat_template != ChatTemplateKind::kNone)
    LACUNA_RETURN_IF_ERROR(
        ChatTokenizer::Create(tokenizer, recipe.data.chat_template, {}).status());
  inputs.tokenizer_hash = tokenizer.hash();
  LACUNA_ASSIGN_OR_RETURN(
      inputs.loader,
      DataLoader::Open(recipe.data, length, static_cast<uint64_t>(recipe.run.seed),
                       recipe.run.stage, vocab_size, inputs.tokenizer_hash, may_write_cache));
  for (const ValidationConfig& config : recipe.data.validation) {
    LACUNA_ASSIGN_OR_RETURN(auto set,
                            ValidationSet::Open(config, length, vocab_size, inputs.tokenizer_hash));
    inputs.validation.push_back(std::move(set));
  }
  LACUNA_RETURN_IF_ERROR(CheckChat(inputs, recipe.data.chat_template));
  return inputs;
}

absl::StatusOr<std::string> ContinueData(const RunState& state, const std::string& run_dir,
                                         RunInputs* inputs) {
  for (const auto& [name, fingerprint] : inputs->loader->fingerprints()) {
    const auto before = state.sources.find(name);
    if (before == state.sources.end() || before->second.fingerprint == fingerprint) continue;
    return DataError(
        "data.sources: {}: its shards have fingerprint {}, the checkpoint of step {} was trained "
        "on {}; a run resumes only on its own data (other text is another source)",
        name, fingerprint, state.step, before->second.fingerprint);
  }
  LACUNA_ASSIGN_OR_RETURN(MixtureJournal journal, MixtureJournal::FromJson(state.mixture, run_dir));
  return inputs->loader->AdoptJournal(std::move(journal), state.samples);
}

void NoteData(const RunInputs& inputs, RunState* state) {
  for (const auto& [name, fingerprint] : inputs.loader->fingerprints())
    state->sources[name].fingerprint = fingerprint;
  state->mixture = inputs.loader->journal().ToJson();
  state->tokenizer_hash = inputs.tokenizer_hash;
}

std::vector<std::pair<std::string, double>> UnigramBaselines(const RunInputs& inputs,
                                                             int64_t vocab_size) {
  constexpr int64_t kMostTokens = 200'000'000;
  const size_t sources = inputs.loader->source_names().size();
  int64_t tokens = 0;
  for (size_t i = 0; i < sources; ++i) tokens += inputs.loader->corpus(i).num_tokens();
  if (tokens > kMostTokens) return {};
  UnigramModel unigram(vocab_size);
  for (size_t i = 0; i < sources; ++i) unigram.Count(inputs.loader->corpus(i));
  std::vector<std::pair<std::string, double>> baselines;
  for (const auto& set : inputs.validation)
    baselines.emplace_back(set->name(), unigram.BitsPerByte(*set));
  return baselines;
}

}  // namespace lacuna
