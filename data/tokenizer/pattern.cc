#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/pattern.h"

#include <pcre2.h>

#include "core/error.h"
#include "core/status.h"

namespace lacuna {

const char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

std::string ErrorText(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Matcher::Matcher()
    : data_(pcre2_match_data_create(1, nullptr)),
      context_(pcre2_match_context_create(nullptr)),
      // Alternatives inside a repeated group keep a frame each: a long run of one class needs more
      // than the default 32 KiB. Grown on use.
      stack_(pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr)) {
  LACUNA_CHECK(data_ && context_ && stack_, "pcre2: out of memory");
  pcre2_jit_stack_assign(context_, nullptr, stack_);
}

Matcher::~Matcher() {
  pcre2_jit_stack_free(stack_);
  pcre2_match_context_free(context_);
  pcre2_match_data_free(data_);
}

absl::StatusOr<Pattern> Pattern::Compile(std::string_view pattern, Syntax syntax) {
  std::string translated(pattern);
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE;
  if (syntax == Syntax::kLiteral) {
    options = PCRE2_UTF | PCRE2_LITERAL;
  } else {
    LACUNA_ASSIGN_OR_RETURN(translated, TranslatePattern(pattern));
  }
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                   translated.size(), options, &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code)
    return DataError("pattern \"{}\": {} at byte {} of \"{}\"", OneLine(pattern), ErrorText(error),
                     offset, OneLine(translated));
  std::shared_ptr<const pcre2_code> owner(
      code, [](const pcre2_code* c) { pcre2_code_free(const_cast<pcre2_code*>(c)); });
  if (const int status = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); status != 0) {
    return DataError("pattern \"{}\": cannot be compiled to machine code: {}", OneLine(pattern),
                     ErrorText(status));
  }
  return Pattern(std::move(owner));
}

absl::StatusOr<bool> Pattern::Find(std::string_view text, size_t from, Matcher* matcher,
                                   Match* match) const {
  // The JIT entry point skips argument checks and the UTF-8 check: the caller has done it once for
  // the whole text.
  const int found = pcre2_jit_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                    text.size(), from, 0, matcher->data_, matcher->context_);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0)
    return DataError("splitting into words failed at byte {} of {}: {}", from, text.size(),
                     ErrorText(found));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(matcher->data_);
  *match = {range[0], range[1]};
  return true;
}

}  // namespace lacuna
