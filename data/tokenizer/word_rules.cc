#include "data/tokenizer/word_rules.h"

#include <algorithm>
#include <cctype>

#include "core/status.h"
#include "data/tokenizer/pattern.h"

namespace lacuna {
namespace {

constexpr char kQwen2[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kDeepSeek3Digits[] = R"(\p{N}{1,3})";
constexpr char kDeepSeek3Cjk[] = "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+";
constexpr char kDeepSeek3[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct Named {
  const char* name;
  WordRules rules;
};

const std::vector<Named>& AllWordRules() {
  static const std::vector<Named> all = {
      {"gpt2", {{}, {kGpt2Pattern}}},
      {"llama3", {{}, {kLlama3Pattern}}},
      {"qwen2", {{NormalForm::kNfc}, {kQwen2}}},
      {"deepseek3", {{}, {kDeepSeek3Digits, kDeepSeek3Cjk, kDeepSeek3}}}};
  return all;
}

}  // namespace

std::optional<WordRules> FindWordRules(std::string_view name) {
  for (const Named& named : AllWordRules()) {
    if (named.name == name) return named.rules;
  }
  return std::nullopt;
}

std::vector<std::string> WordRulesNames() {
  std::vector<std::string> names;
  for (const Named& named : AllWordRules()) names.emplace_back(named.name);
  return names;
}

absl::StatusOr<WordRules> ParseWordRules(const std::string& text) {
  if (std::optional<WordRules> rules = FindWordRules(text)) return *std::move(rules);
  const bool is_word = std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.';
  });
  if (is_word) {
    return ConfigError("pattern \"{}\": allowed are {}, or a regular expression", text,
                       fmt::join(WordRulesNames(), ", "));
  }
  return WordRules{{}, {text}};
}

}  // namespace lacuna
