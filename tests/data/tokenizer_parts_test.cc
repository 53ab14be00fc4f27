// What tokenizers are made of: UTF-8, the byte alphabet, patterns, normal forms.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pattern.h"
#include "data/tokenizer/pre_tokenizer.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

using testing::ElementsAre;

std::string EncodeCodePoint(uint32_t c) {
  const auto byte = [](uint32_t value) { return std::string(1, static_cast<char>(value)); };
  const auto rest = [&](int shift) { return byte(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) return byte(c);
  if (c < 0x800) return byte(0xC0 | (c >> 6)) + rest(0);
  if (c < 0x10000) return byte(0xE0 | (c >> 12)) + rest(6) + rest(0);
  return byte(0xF0 | (c >> 18)) + rest(12) + rest(6) + rest(0);
}

TEST(Utf8, AcceptsTheCodePointsAndNothingElse) {
  for (uint32_t c = 0; c < 0x120000; ++c) {
    const bool valid = c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
    EXPECT_EQ(FirstInvalidUtf8(EncodeCodePoint(c)) == -1, valid) << c;
  }
  // All pairs and triples that begin with a lead byte: valid ones are those that encode a code point in its shortest form.
  std::set<std::string> two, three;
  for (uint32_t c = 0x80; c < 0x10000; ++c) {
    if (c < 0xD800 || c > 0xDFFF) (c < 0x800 ? two : three).insert(EncodeCodePoint(c));
  }
  for (uint32_t a = 0xC0; a < 0x100; ++a) {
    for (uint32_t b = 0; b < 0x100; ++b) {
      std::string text = {static_cast<char>(a), static_cast<char>(b)};
      EXPECT_EQ(FirstInvalidUtf8(text) == -1, two.contains(text)) << a << " " << b;
      for (uint32_t c : {0x00u, 0x7Fu, 0x80u, 0xBFu, 0xC0u, 0xFFu}) {
        const std::string longer = text + static_cast<char>(c);
        EXPECT_EQ(FirstInvalidUtf8(longer) == -1,
                  three.contains(longer) || (two.contains(text) && c < 0x80))
            << a << " " << b << " " << c;
      }
    }
  }
}

TEST(Utf8, NamesTheFirstBadByteWhereverItIs) {
  for (size_t size = 1; size < 40; ++size) {
    for (size_t bad = 0; bad < size; ++bad) {
      std::string text(size, 'a');
      text[bad] = '\xFF';
      EXPECT_EQ(FirstInvalidUtf8(text), static_cast<int64_t>(bad)) << size;
    }
    EXPECT_EQ(FirstInvalidUtf8(std::string(size, 'a') + "\xE2\x82"), static_cast<int64_t>(size));
  }
}

TEST(Utf8, RepairsAsUnicodeRecommends) {
  // Unicode 14, section 3.9, tables 3-8 to 3-11.
  const std::string bad = "\uFFFD";
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                               "A"),
            bad + bad + bad + bad + bad + bad + bad + bad + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                               "A"),
            bad + bad + bad + bad + bad + bad + bad + bad + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("\xF4\x91\x92\x93\xFF"
                               "A\x80\xBF"
                               "B"),
            bad + bad + bad + bad + bad + "A" + bad + bad + "B");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                               "A"),
            bad + bad + bad + bad + "A");
  EXPECT_EQ(ReplaceInvalidUtf8("aé😀"), "aé😀");
  EXPECT_EQ(ReplaceInvalidUtf8(""), "");
}

TEST(ByteAlphabet, IsGpt2s) {
  std::set<std::string> symbols;
  std::string bytes;
  for (int b = 0; b < 256; ++b) {
    const std::string symbol = ByteSymbol(static_cast<uint8_t>(b));
    symbols.insert(symbol);
    EXPECT_EQ(symbol,
              EncodeCodePoint(static_cast<uint32_t>(ByteSymbolCodePoint(static_cast<uint8_t>(b)))));
    ASSERT_TRUE(BytesFromSymbols(symbol, &bytes));
    EXPECT_EQ(bytes, std::string(1, static_cast<char>(b)));
  }
  EXPECT_EQ(symbols.size(), 256u);
  EXPECT_EQ(SymbolsFromBytes(" a\n\t~\x7F\xA0\xAD\xAE"), "ĠaĊĉ~ġłŃ®");
  for (const char* other : {" ", "\n", "a b", "力", "ń\u0144", "\xC4", "\u00AD", "\u0145"})
    EXPECT_FALSE(BytesFromSymbols(other, &bytes)) << other;
}

std::vector<std::string> WordsOf(const SplitRule& rule, std::string_view text) {
  Matcher matcher;
  std::vector<std::string> words;
  const absl::Status status = PreTokenizer({rule}).ForEachWord(
      text, &matcher, [&](std::string_view word) { words.emplace_back(word); });
  LACUNA_CHECK(status.ok(), "{}", Message(status));
  return words;
}

std::vector<std::string> Split(const std::string& pattern, std::string_view text) {
  auto compiled = Pattern::Compile(pattern);
  LACUNA_CHECK(compiled.ok(), "{}", Message(compiled.status()));
  SplitRule rule;
  rule.pattern = *compiled;
  return WordsOf(rule, text);
}

TEST(Pattern, MeansWhatOnigurumaMeans) {
  EXPECT_THAT(Split(R"(\p{N}{1,3}+)", "1234567"), ElementsAre("1234567"));
  EXPECT_THAT(Split(R"(\p{N}{1,3})", "1234567"), ElementsAre("123", "456", "7"));
  EXPECT_THAT(Split(R"(\s+)", "a\u180Eb\u00A0c\u2028d"),
              ElementsAre("a\u180Eb", "\u00A0", "c", "\u2028", "d"));
  EXPECT_THAT(Split(R"([^\s]+)", "a\u180Eb\u0085c"), ElementsAre("a\u180Eb", "\u0085", "c"));
  EXPECT_THAT(Split(R"(\S+$)", "ab cd\nef"), ElementsAre("ab ", "cd", "\n", "ef"));
  EXPECT_THAT(Split("x{,2}y", "xxxy{,2}"), ElementsAre("x", "xxy", "{,2}"));
  EXPECT_THAT(Split("", "ab"), ElementsAre("a", "b"));
  EXPECT_THAT(Split("x*", "éaxxé"), ElementsAre("é", "a", "xx", "é"));
  EXPECT_THAT(Split(R"((?=(?:\d{3})+(?!\d)))", "a 1234567 x"), ElementsAre("a 1", "234", "567 x"));
}

// As Split of the `tokenizers` library does.
TEST(SplitRule, JoinsPiecesAsItsBehaviorSays) {
  using enum SplitBehavior;
  using Words = std::vector<std::string>;
  const auto split = [](const char* pattern, SplitBehavior behavior, bool invert) {
    SplitRule rule;
    rule.pattern = *Pattern::Compile(pattern);
    rule.behavior = behavior;
    rule.invert = invert;
    return WordsOf(rule, "éaxxé x");
  };
  EXPECT_EQ(split("x", kIsolated, false), (Words{"éa", "x", "x", "é ", "x"}));
  EXPECT_EQ(split("x", kIsolated, true), (Words{"éa", "x", "x", "é ", "x"}));
  EXPECT_EQ(split("x", kRemoved, false), (Words{"éa", "é "}));
  EXPECT_EQ(split("x", kRemoved, true), (Words{"x", "x", "x"}));
  EXPECT_EQ(split("x", kMergedWithPrevious, false), (Words{"éax", "x", "é x"}));
  EXPECT_EQ(split("x", kMergedWithPrevious, true), (Words{"éa", "x", "xé ", "x"}));
  EXPECT_EQ(split("x", kMergedWithNext, false), (Words{"éa", "x", "xé ", "x"}));
  EXPECT_EQ(split("x", kMergedWithNext, true), (Words{"éax", "x", "é x"}));
  EXPECT_EQ(split("x", kContiguous, false), (Words{"éa", "xx", "é ", "x"}));
  EXPECT_EQ(split("x*", kMergedWithPrevious, false), (Words{"é", "axx", "é", " x"}));
  EXPECT_EQ(split("x*", kMergedWithPrevious, true), (Words{"é", "a", "xxé", " ", "x"}));
}

TEST(Pattern, IsTranslatedAtomByAtom) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"(a\sb\S[\s\S])", R"(a\p{White_Space}b\P{White_Space}[\p{White_Space}\P{White_Space}])"},
      {R"(\\s)", R"(\\s)"},
      {R"(\p{N}{1,3}+)", R"((?:\p{N}{1,3})+)"},
      {R"(a[b\]c]{2}+d)", R"(a(?:[b\]c]{2})+d)"},
      {R"(a[]{1}]{2}+)", R"(a(?:[]{1}]{2})+)"},
      {R"((?:a(b)c){2,}+)", R"((?:(?:a(b)c){2,})+)"},
      {R"(ab{,2}+)", R"(a(?:b{0,2})+)"},
      {"aé{2}+", "a(?:é{2})+"},
      {R"(a{1,2}b++c?+)", R"(a{1,2}b++c?+)"},
      {R"(a{x}+{,}+{+)", R"(a{x}+{,}+{+)"},
      {R"([\u3040-\u30ff]\x41\x{1F600}\.)", R"([\x{3040}-\x{30ff}]\x41\x{1F600}\.)"},
      {R"((?i:'s)|(?=a)(?!b)(?<=c)(?<!d)(?>e))", R"((?i:'s)|(?=a)(?!b)(?<=c)(?<!d)(?>e))"},
  };
  for (const auto& [pattern, translated] : cases) EXPECT_EQ(*TranslatePattern(pattern), translated);
}

TEST(Pattern, RefusesWhatWasNotChecked) {
  for (const char* pattern :
       {R"(\w)",      R"(\b)", R"(\h)",     R"(\R)",     R"(\1)",          R"(\xe9)", R"(\u12)",
        R"(\pL)",     R"(\)",  R"([a[b]])", R"([a&&b])", R"([[:alpha:]])", "[a",      "(?m:a)",
        "(?<name>a)", "(?#c)", "(*ACCEPT)", "(?i)a",     R"(\p{Unheard})", "a)",      "(a",
        "+"}) {
    const auto compiled = Pattern::Compile(pattern);
    ASSERT_FALSE(compiled.ok()) << pattern;
    EXPECT_EQ(Message(compiled.status()).find("pattern \"" + std::string(pattern) + "\": "), 0u)
        << Message(compiled.status());
    EXPECT_EQ(ExitCodeOf(compiled.status()), ExitCode::kData);
  }
  EXPECT_EQ(Message(Pattern::Compile(R"(ab\w)").status()),
            R"(pattern "ab\w": "\w" at byte 2 is not supported)");
}

TEST(Pattern, ExceededLimitsAreErrors) {
  const auto pattern = Pattern::Compile("(a+)+b");
  Matcher matcher;
  Pattern::Match match;
  const auto found = pattern->Find(std::string(64, 'a'), 0, &matcher, &match);
  // Whether PCRE2 sees that no b follows is its affair; if not, it must stop.
  if (found.ok()) {
    EXPECT_FALSE(*found);
  } else {
    EXPECT_EQ(Message(found.status()),
              "splitting into words failed at byte 0 of 64: match limit exceeded");
  }
}

TEST(Normalizer, UsesTheCharactersOfUnicode9) {
  std::string buffer;
  EXPECT_EQ(Normalize("e\u0301", {NormalForm::kNfc}, &buffer), "é");
  EXPECT_EQ(Normalize("é", {NormalForm::kNfd}, &buffer), "e\u0301");
  EXPECT_EQ(Normalize("ﬁ", {NormalForm::kNfkc}, &buffer), "fi");
  EXPECT_EQ(Normalize("ﬁ\u1E9B\u0323", {NormalForm::kNfkd, NormalForm::kNfc}, &buffer), "fi\u1E69");
  // U+089D (Unicode 14, class 230) stays before U+0316 (class 220), two of Unicode 1 change places.
  EXPECT_EQ(Normalize("a\u089D\u0316", {NormalForm::kNfc}, &buffer), "a\u089D\u0316");
  EXPECT_EQ(Normalize("x\u0301\u0316", {NormalForm::kNfc}, &buffer), "x\u0316\u0301");
  const std::string ascii = "plain";
  EXPECT_EQ(Normalize(ascii, {NormalForm::kNfc}, &buffer).data(), ascii.data());
}

}  // namespace
}  // namespace lacuna
