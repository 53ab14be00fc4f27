// How well-known tokenizers cut text into words before BPE.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/normalizer.h"

namespace lacuna {

struct WordRules {
  std::vector<NormalForm> normal_forms;  // applied first, in order
  // Each cuts at its matches what those before it left.
  std::vector<std::string> patterns;
};

// "gpt2", "llama3", "qwen2" (the text in NFC) or "deepseek3" (three patterns).
std::optional<WordRules> FindWordRules(std::string_view name);
// Their names, in the order of their documentation.
std::vector<std::string> WordRulesNames();
// One of the names, or a regular expression whose matches are words, too. A ConfigError for what
// looks like a name and is none of them.
absl::StatusOr<WordRules> ParseWordRules(const std::string& text);

}  // namespace lacuna
