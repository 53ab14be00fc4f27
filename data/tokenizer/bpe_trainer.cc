#include "data/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/parallel.h"
#include "data/tokenizer/merge_learner.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

using nlohmann::json;

constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

absl::Status CheckSpecialTokens(const std::vector<std::string>& tokens) {
  std::set<std::string> seen;
  for (const std::string& token : tokens) {
    if (token.empty()) return ConfigError("special token: \"\" is not allowed");
    if (FirstInvalidUtf8(token) >= 0)
      return ConfigError("special token: \"{}\" is not UTF-8", OneLine(ReplaceInvalidUtf8(token)));
    // A byte's own token has this name.
    if (std::string bytes; BytesFromSymbols(token, &bytes) && bytes.size() == 1) {
      return ConfigError(
          "special token: \"{}\" is one character of the byte alphabet; give a longer one", token);
    }
    if (!seen.insert(token).second)
      return ConfigError("special token: \"{}\" is given twice", OneLine(token));
  }
  return absl::OkStatus();
}

json ByteLevelStep() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", false}};
}

json NormalizerSection(const std::vector<NormalForm>& forms) {
  static constexpr const char* kNames[] = {"NFC", "NFD", "NFKC", "NFKD"};
  json steps = json::array();
  for (const NormalForm form : forms)
    steps.push_back({{"type", kNames[static_cast<size_t>(form)]}});
  if (steps.empty()) return nullptr;
  return steps.size() == 1 ? steps[0] : json{{"type", "Sequence"}, {"normalizers", steps}};
}

json PreTokenizerSection(const std::vector<std::string>& patterns) {
  json steps = json::array();
  for (const std::string& pattern : patterns) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pattern}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(ByteLevelStep());
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

json MakeDocument(const BpeTrainingOptions& options, const LearnedMerges& learned) {
  json added = json::array(), vocab = json::object(), merges = json::array();
  for (size_t id = 0; id < options.special_tokens.size(); ++id) {
    added.push_back({{"id", id},
                     {"content", options.special_tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  for (size_t id = 0; id < learned.tokens.size(); ++id) vocab[learned.tokens[id]] = id;
  for (const auto& [left, right] : learned.merges) {
    merges.push_back(learned.tokens[static_cast<size_t>(left)] + " " +
                     learned.tokens[static_cast<size_t>(right)]);
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", NormalizerSection(options.words.normal_forms)},
          {"pre_tokenizer", PreTokenizerSection(options.words.patterns)},
          {"post_processor", ByteLevelStep()},
          {"decoder", ByteLevelStep()},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merges}}}};
}

}  // namespace

std::vector<std::string> DefaultSpecialTokens() {
  std::vector<std::string> tokens = {
      "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",     "<think>",       "</think>",
      "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>",   "<tool_call>",
      "</tool_call>",   "<|system|>",     "<|user|>",       "<|assistant|>", "<|observation|>",
      "[gMASK]",        "<sop>"};
  for (int i = 0; tokens.size() < 64; ++i) tokens.push_back(fmt::format("<|reserved_{}|>", i));
  return tokens;
}

absl::StatusOr<BpeTrainer> BpeTrainer::Create(const BpeTrainingOptions& options) {
  LACUNA_RETURN_IF_ERROR(CheckSpecialTokens(options.special_tokens));
  const int64_t least = static_cast<int64_t>(options.special_tokens.size()) + 256;
  if (options.vocab_size < least || options.vocab_size > kMaxVocabulary) {
    return ConfigError("vocabulary size: {}, allowed are {} ({} special tokens, 256 bytes) to {}",
                       options.vocab_size, least, options.special_tokens.size(), kMaxVocabulary);
  }
  if (options.min_frequency < 1)
    return ConfigError("minimum frequency: {}, allowed is at least 1", options.min_frequency);
  std::vector<SplitRule> rules;
  for (const std::string& source : options.words.patterns) {
    auto pattern = Pattern::Compile(source);
    if (!pattern.ok()) return ConfigError("{}", Message(pattern.status()));
    rules.emplace_back().pattern = *std::move(pattern);
  }
  BpeTrainer trainer(options, PreTokenizer(std::move(rules)));
  // What only the finished file would tell, told before hours of counting.
  const LearnedMerges none = LearnMerges({}, options.special_tokens, options.vocab_size, 1);
  const auto empty = Tokenizer::FromJson(MakeDocument(options, none).dump(), "special tokens");
  if (!empty.ok()) return ConfigError("{}", Message(empty.status()));
  return trainer;
}

absl::Status BpeTrainer::Add(const std::vector<std::string_view>& documents) {
  // Runs of documents of about a megabyte each: enough to share out, few enough to join.
  constexpr size_t kRunBytes = size_t{1} << 20;
  std::vector<size_t> begins;
  size_t bytes = kRunBytes;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (bytes >= kRunBytes) {
      begins.push_back(i);
      bytes = 0;
    }
    bytes += documents[i].size();
  }
  begins.push_back(documents.size());
  const int64_t runs = static_cast<int64_t>(begins.size()) - 1;
  std::vector<BytesViewMap<int64_t>> counts(static_cast<size_t>(runs));
  std::vector<absl::Status> statuses(static_cast<size_t>(runs));
  std::vector<std::string> normalized(documents.size());  // words are views into it
  ParallelFor(runs, kRunBytes, [&](int64_t run) {
    Matcher matcher;
    const size_t r = static_cast<size_t>(run);
    for (size_t i = begins[r]; i < begins[r + 1] && statuses[r].ok(); ++i) {
      if (const int64_t bad = FirstInvalidUtf8(documents[i]); bad >= 0) {
        statuses[r] = DataError("document {}: byte {} of {} (0x{:02x}) is not UTF-8", i, bad,
                                documents[i].size(),
                                static_cast<uint8_t>(documents[i][static_cast<size_t>(bad)]));
        return;
      }
      const std::string_view text =
          Normalize(documents[i], options_.words.normal_forms, &normalized[i]);
      statuses[r] = pre_tokenizer_.ForEachWord(text, &matcher,
                                               [&](std::string_view word) { ++counts[r][word]; });
    }
  });
  for (const absl::Status& status : statuses) LACUNA_RETURN_IF_ERROR(status);
  for (const auto& run : counts) {
    for (const auto& [word, count] : run) {
      const auto found = counts_.find(word);
      if (found != counts_.end()) {
        found->second += count;
      } else {
        counts_.emplace(word, count);
      }
    }
  }
  for (const std::string_view document : documents)
    num_bytes_ += static_cast<int64_t>(document.size());
  return absl::OkStatus();
}

absl::StatusOr<Tokenizer> BpeTrainer::Train() const {
  std::vector<std::pair<std::string_view, int64_t>> words(counts_.begin(), counts_.end());
  // The hash map's order differs from run to run; the order of words breaks no tie, yet sorted it
  // is one thing less to reason about.
  std::sort(words.begin(), words.end());
  const LearnedMerges learned =
      LearnMerges(words, options_.special_tokens, options_.vocab_size, options_.min_frequency);
  return Tokenizer::FromJson(MakeDocument(options_, learned).dump(), "trained tokenizer");
}

}  // namespace lacuna
