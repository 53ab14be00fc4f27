// Regular expressions that split text into words, with the meaning they have in Oniguruma, the
// engine of the `tokenizers` library.
//
// PCRE2 with JIT runs them. Where the two engines read the same text differently the pattern is
// rewritten: \s and \S become the Unicode property White_Space (U+180E), `X{n,m}+` repeats X{n,m}
// (PCRE2's is possessive), \uHHHH becomes \x{HHHH}; ^ and $ match at lines. A construct whose
// agreement was not checked (\w, \b, \h, nested character classes, ...) is refused by name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace lacuna {

// The pattern of Llama 3, and of the tokenizers trained here.
extern const char kLlama3Pattern[];
// The one inside `ByteLevel`.
extern const char kGpt2Pattern[];

// What one thread needs for matching with any number of patterns.
class Matcher {
 public:
  Matcher();
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;
  ~Matcher();

 private:
  friend class Pattern;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* stack_;
};

// Immutable, shared by threads.
class Pattern {
 public:
  enum class Syntax { kRegex, kLiteral };
  struct Match {
    size_t begin, end;  // bytes
  };

  // Errors are DataErrors quoting the pattern and the offset in it.
  static absl::StatusOr<Pattern> Compile(std::string_view pattern, Syntax syntax = Syntax::kRegex);

  // The first match that begins at `from` or later; it may be empty. `text` must be UTF-8
  // (unchecked) and `from` begin a character or be its end.
  // False where there is none; an error where matching exceeds PCRE2's limits.
  absl::StatusOr<bool> Find(std::string_view text, size_t from, Matcher* matcher,
                            Match* match) const;

 private:
  explicit Pattern(std::shared_ptr<const pcre2_real_code_8> code) : code_(std::move(code)) {}
  std::shared_ptr<const pcre2_real_code_8> code_;
};

// The pattern as PCRE2 has to read it.
absl::StatusOr<std::string> TranslatePattern(std::string_view oniguruma);

}  // namespace lacuna
