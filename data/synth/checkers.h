// The checkers of the tasks, and how they read texts. Only for the files that implement
// data/synth/answer_check.h.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/synth/answer_check.h"

namespace lacuna::synth {

// The words of a text, one after the other; words are what white space separates. With `lines`
// "\n" is a word, too.
class WordReader {
 public:
  explicit WordReader(std::string_view text, bool lines = false);

  bool done() const { return at_ == words_.size(); }
  // The next word, "" at the end.
  std::string_view peek() const { return done() ? std::string_view() : words_[at_]; }
  std::string_view Next() {
    const std::string_view word = peek();
    if (!done()) ++at_;
    return word;
  }
  // Takes the next word if it is `word`.
  bool Take(std::string_view word);
  // Takes all of the words of `text`, or none.
  bool TakeAll(std::string_view text);
  // Takes the words of digits that come next as one number: "1 2" is 12. "" where there are none.
  std::string TakeDigits();
  // The same without leading zeros, with a "-" before it allowed, for values of up to 18 digits.
  std::optional<int64_t> TakeNumber();
  // "\"3 + 5\" (word 7)": where the reader stands.
  std::string Where() const;

 private:
  std::vector<std::string_view> words_;
  size_t at_ = 0;
};

inline CheckVerdict Correct() {
  return {.correct = true, .why = ""};
}
template <class... T>
CheckVerdict Wrong(fmt::format_string<T...> format, T&&... args) {
  return {.correct = false, .why = fmt::format(format, std::forward<T>(args)...)};
}

// An answer that must be this number: digits with white space between them or not.
CheckVerdict CheckNumber(std::string_view answer, const std::string& expected);

struct Checker {
  const char* task;
  const char* begins;  // how its problems begin
  // Empty where `user` is not a problem as the task writes it.
  std::optional<CheckVerdict> (*answer)(std::string_view user, std::string_view answer);
  std::optional<CheckVerdict> (*trace)(std::string_view user, std::string_view reasoning);
};

Checker ModularChainChecker();
Checker AdditionChecker();
Checker MultiplicationChecker();
Checker GraphPathChecker();
Checker RecallChecker();

}  // namespace lacuna::synth
