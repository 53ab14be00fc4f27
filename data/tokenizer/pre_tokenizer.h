// Splits text into the words inside which BPE merges.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/status.h"
#include "data/tokenizer/pattern.h"

namespace lacuna {

// Each rule splits every part that the rules before it left, each part for itself.
struct SplitRule {
  // matches and what lies between them become parts; none: no split
  std::optional<Pattern> pattern;
  bool drop_gaps = false;     // only the matches do
  bool prefix_space = false;  // a part that does not begin with a space gets one first
};

class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(std::vector<SplitRule> rules) : rules_(std::move(rules)) {}

  // use(std::string_view word) for each word in order; a word is valid only during its call. `text`
  // must be UTF-8.
  template <class F>
  absl::Status ForEachWord(std::string_view text, Matcher* matcher, F&& use) const {
    return Split(0, text, matcher, use);
  }

 private:
  template <class F>
  absl::Status Split(size_t rule_index, std::string_view text, Matcher* matcher, F& use) const {
    if (text.empty()) return absl::OkStatus();
    if (rule_index == rules_.size()) {
      use(text);
      return absl::OkStatus();
    }
    const SplitRule& rule = rules_[rule_index];
    std::string prefixed;
    if (rule.prefix_space && text[0] != ' ') {
      prefixed.append(" ").append(text);
      text = prefixed;
    }
    if (!rule.pattern) return Split(rule_index + 1, text, matcher, use);
    size_t at = 0;
    while (at < text.size()) {
      Pattern::Match match;
      LACUNA_ASSIGN_OR_RETURN(const bool found, rule.pattern->Find(text, at, matcher, &match));
      if (!found) match = {text.size(), text.size()};
      if (!rule.drop_gaps)
        LACUNA_RETURN_IF_ERROR(
            Split(rule_index + 1, text.substr(at, match.begin - at), matcher, use));
      LACUNA_RETURN_IF_ERROR(
          Split(rule_index + 1, text.substr(match.begin, match.end - match.begin), matcher, use));
      at = match.end;
    }
    return absl::OkStatus();
  }

  std::vector<SplitRule> rules_;
};

}  // namespace lacuna
