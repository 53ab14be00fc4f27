#include "data/synth/answer_check.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/status.h"
#include "data/synth/checkers.h"

namespace lacuna {
namespace synth {
namespace {

bool IsSpace(char c) {
  return std::isspace(static_cast<unsigned char>(c)) != 0;
}
bool IsDigits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

const std::vector<Checker>& Checkers() {
  static const std::vector<Checker> checkers = {ModularChainChecker(), AdditionChecker(),
                                                MultiplicationChecker(), GraphPathChecker(),
                                                RecallChecker()};
  return checkers;
}

std::string Start(std::string_view text) {
  constexpr size_t kShown = 40;
  return std::string(text.substr(0, kShown)) + (text.size() > kShown ? " ..." : "");
}

absl::StatusOr<const Checker*> Find(std::string_view user) {
  std::string known;
  for (const Checker& checker : Checkers()) {
    if (user.starts_with(checker.begins)) return &checker;
    known += fmt::format("{}\"{} ...\"", known.empty() ? "" : ", ", checker.begins);
  }
  return DataError("problem \"{}\": of no known task; problems begin with {}", Start(user), known);
}

}  // namespace

WordReader::WordReader(std::string_view text, bool lines) {
  for (size_t i = 0; i < text.size();) {
    if (IsSpace(text[i])) {
      if (lines && text[i] == '\n') words_.push_back(text.substr(i, 1));
      ++i;
      continue;
    }
    const size_t begin = i;
    while (i < text.size() && !IsSpace(text[i])) ++i;
    words_.push_back(text.substr(begin, i - begin));
  }
}

bool WordReader::Take(std::string_view word) {
  if (peek() != word || done()) return false;
  ++at_;
  return true;
}

bool WordReader::TakeAll(std::string_view text) {
  const size_t before = at_;
  const WordReader wanted(text);
  for (const std::string_view word : wanted.words_) {
    if (Take(word)) continue;
    at_ = before;
    return false;
  }
  return true;
}

std::string WordReader::TakeDigits() {
  std::string digits;
  while (IsDigits(peek())) digits += Next();
  return digits;
}

std::optional<int64_t> WordReader::TakeNumber() {
  const bool negative = Take("-");
  const std::string digits = TakeDigits();
  int64_t value = 0;
  if (digits.empty() || digits.size() > 18) return std::nullopt;
  if (digits[0] == '0' && (negative || digits.size() > 1)) return std::nullopt;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return negative ? -value : value;
}

std::string WordReader::Where() const {
  if (done()) return "the end";
  std::string text;
  for (size_t i = at_; i < std::min(at_ + 5, words_.size()); ++i)
    text += fmt::format("{}{}", text.empty() ? "" : " ", words_[i] == "\n" ? "\\n" : words_[i]);
  return fmt::format("\"{}\" (word {})", text, at_ + 1);
}

CheckVerdict CheckNumber(std::string_view answer, const std::string& expected) {
  std::string digits;
  for (const char c : answer) {
    if (!IsSpace(c)) digits += c;
  }
  if (digits == expected) return Correct();
  return Wrong("the answer is \"{}\", must be {}", Start(answer), Start(expected));
}

}  // namespace synth

absl::StatusOr<std::string> TaskOfProblem(std::string_view user) {
  LACUNA_ASSIGN_OR_RETURN(const synth::Checker* checker, synth::Find(user));
  return std::string(checker->task);
}

absl::StatusOr<CheckVerdict> CheckAnswer(std::string_view user, std::string_view answer) {
  LACUNA_ASSIGN_OR_RETURN(const synth::Checker* checker, synth::Find(user));
  auto verdict = checker->answer(user, answer);
  if (verdict) return *std::move(verdict);
  return DataError("problem \"{}\": is not written as {} problems are", synth::Start(user),
                   checker->task);
}

absl::StatusOr<CheckVerdict> CheckTrace(std::string_view user, std::string_view reasoning) {
  LACUNA_ASSIGN_OR_RETURN(const synth::Checker* checker, synth::Find(user));
  auto verdict = checker->trace(user, reasoning);
  if (verdict) return *std::move(verdict);
  return DataError("problem \"{}\": is not written as {} problems are", synth::Start(user),
                   checker->task);
}

}  // namespace lacuna
