// Splits text into the words inside which BPE merges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/status.h"
#include "data/tokenizer/pattern.h"

namespace lacuna {

// What becomes of the pieces of a text: the pattern's matches and the gaps between them. A match
// that is empty ends a gap, too.
enum class SplitBehavior : uint8_t {
  kIsolated,            // each piece is a part
  kRemoved,             // each gap is
  kMergedWithPrevious,  // a match joins the gap before it; of several in a row the first does
  kMergedWithNext,      // a match joins the gap behind it; of several in a row the last does
  kContiguous,          // matches in a row are one part
};

// Each rule splits every part that the rules before it left, each part for itself.
struct SplitRule {
  std::optional<Pattern> pattern;  // none: no split
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;        // gaps count as matches, matches as gaps
  bool prefix_space = false;  // a part that does not begin with a space gets one first
};

// Joins pieces, given in order, to parts.
class PieceJoiner {
 public:
  using Range = Pattern::Match;

  explicit PieceJoiner(SplitBehavior behavior) : behavior_(behavior) {}

  // The part that is complete now, if any.
  std::optional<Range> Add(Range piece, bool is_match) {
    const bool previous = std::exchange(previous_, is_match);
    bool joins = false;
    switch (behavior_) {
      case SplitBehavior::kIsolated:
        return piece;
      case SplitBehavior::kRemoved:
        return is_match ? std::nullopt : std::optional(piece);
      case SplitBehavior::kMergedWithPrevious:
        joins = is_match && !previous;
        break;
      case SplitBehavior::kMergedWithNext:
        joins = previous && !is_match;
        break;
      case SplitBehavior::kContiguous:
        joins = is_match == previous;
        break;
    }
    if (!joins || !open_) return std::exchange(open_, piece);
    open_->end = piece.end;
    return std::nullopt;
  }
  std::optional<Range> Finish() { return std::exchange(open_, std::nullopt); }

 private:
  SplitBehavior behavior_;
  bool previous_ = false;
  std::optional<Range> open_;
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
    PieceJoiner joiner(rule.behavior);
    const auto use_part = [&](std::optional<Pattern::Match> part) {
      if (!part) return absl::OkStatus();
      return Split(rule_index + 1, text.substr(part->begin, part->end - part->begin), matcher, use);
    };
    // Empty matches are found once, and not right behind another match.
    size_t used = 0, search = 0, last_end = std::string_view::npos;
    while (search < text.size()) {
      Pattern::Match match;
      LACUNA_ASSIGN_OR_RETURN(const bool found, rule.pattern->Find(text, search, matcher, &match));
      if (!found) break;
      if (match.begin == match.end && match.end == last_end) {
        search = NextCharacter(text, search);
        continue;
      }
      if (match.begin > used)
        LACUNA_RETURN_IF_ERROR(use_part(joiner.Add({used, match.begin}, rule.invert)));
      LACUNA_RETURN_IF_ERROR(use_part(joiner.Add(match, !rule.invert)));
      used = search = last_end = match.end;
    }
    if (used < text.size())
      LACUNA_RETURN_IF_ERROR(use_part(joiner.Add({used, text.size()}, rule.invert)));
    return use_part(joiner.Finish());
  }

  static size_t NextCharacter(std::string_view text, size_t at) {
    do {
      ++at;
    } while (at < text.size() && (static_cast<uint8_t>(text[at]) & 0xC0) == 0x80);
    return at;
  }

  std::vector<SplitRule> rules_;
};

}  // namespace lacuna
