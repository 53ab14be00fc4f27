// Encoding: the ids of the `tokenizers` library, the rules that no golden case shows, errors.
#include "data/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/data/tokenizer_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using nlohmann::json;
using test::Golden;
using test::Ids;
using test::Make;
using test::Patched;
using test::TempDir;
using test::TryMake;
using testing::ElementsAre;

using IdList = std::vector<int32_t>;

class GoldenCase : public testing::TestWithParam<std::string> {};

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& [name, unused] : Golden()["cases"].items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, GoldenCase, testing::ValuesIn(CaseNames()),
                         [](const auto& info) { return info.param; });

TEST_P(GoldenCase, GivesTheLibrarysIds) {
  const json& golden = Golden()["cases"][GetParam()];
  const Tokenizer tokenizer = Make(Patched(golden["patch"]));
  const auto& texts = Golden()["texts"];
  ASSERT_EQ(golden["as_text"].size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const std::string text = texts[i];
    EXPECT_EQ(Ids(tokenizer, text), golden["as_text"][i].get<IdList>()) << text;
    EXPECT_EQ(Ids(tokenizer, text, SpecialTokens::kParse), golden["parsed"][i].get<IdList>())
        << text;
  }
}

TEST(Tokenizer, DecodesWhatItEncoded) {
  const Tokenizer tokenizer = Make(Golden()["base"]);
  std::mt19937 random(1);
  const std::vector<std::string> parts = {
      "a", "b ", "\r\n", " ",       "\xEF\xBB\xBF",  std::string(1, '\0'),
      "é", "力", "😀",    "<think>", "<|endoftext|>", "12"};
  for (int repeat = 0; repeat < 500; ++repeat) {
    std::string text;
    for (size_t n = random() % 40; n > 0; --n) text += parts[random() % parts.size()];
    EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, text)), text);
    EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, text, SpecialTokens::kParse)), text);
  }
}

TEST(Tokenizer, DecodesUnknownIdsAsReplacementCharacters) {
  const Tokenizer tokenizer = Make(Golden()["base"]);
  EXPECT_EQ(tokenizer.vocab_size(), 400);
  EXPECT_EQ(tokenizer.Decode({400, -1, 0}), "\uFFFD\uFFFD<|endoftext|>");
}

// The obvious algorithm over strings.
std::vector<std::string> MergeNaively(const json& merges, std::vector<std::string> symbols) {
  std::map<std::pair<std::string, std::string>, size_t> ranks;
  for (size_t i = 0; i < merges.size(); ++i) ranks[{merges[i][0], merges[i][1]}] = i;
  while (true) {
    size_t best = merges.size(), place = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto found = ranks.find({symbols[i], symbols[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        place = i;
      }
    }
    if (best == merges.size()) return symbols;
    symbols[place] += symbols[place + 1];
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(Tokenizer, MergesShortAndLongWordsLikeTheObviousAlgorithm) {
  const json& base = Golden()["base"];
  const Tokenizer tokenizer = Make(base);
  ASSERT_TRUE(base["model"]["merges"][0].is_array());
  std::mt19937 random(2);
  for (int repeat = 0; repeat < 200; ++repeat) {
    // One word of the pattern: letters, few of them so that merges overlap. Lengths around every limit of the implementation.
    const size_t size = repeat < 120 ? 1 + static_cast<size_t>(repeat) : 300;
    std::vector<std::string> letters;
    std::string word;
    for (size_t i = 0; i < size; ++i) letters.push_back(std::string(1, "etosrn"[random() % 6]));
    for (const std::string& letter : letters) word += letter;
    IdList expected;
    for (const std::string& symbol : MergeNaively(base["model"]["merges"], letters))
      expected.push_back(base["model"]["vocab"][symbol]);
    EXPECT_EQ(Ids(tokenizer, word), expected) << word;
  }
}

TEST(Tokenizer, LongRunsTakeLinearTimeAndMemory) {
  // Quadratic merging would take hours; a pattern that recurses by character would exhaust its stack.
  for (const char* name : {"llama3", "cl100k", "o200k", "deepseek", "gpt2", "digits"}) {
    const Tokenizer tokenizer = Make(Patched(Golden()["cases"][name]["patch"]));
    for (const char* unit : {"a", " ", "\n", "^", "1", "é", "=", "Aa"}) {
      std::string text;
      while (text.size() < 1 << 20) text += unit;
      EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, text)), text) << name << " " << unit;
    }
  }
}

TEST(Tokenizer, ASpecialTokenNeverComesFromText) {
  // "router" is a word of the text and, in the second tokenizer, a token that ignore_merges would find whole.
  const json vocab_patch = {{"model", {{"vocab", {{"router", 400}}}}}};
  const json added = {{"added_tokens",
                       {{{"id", 400}, {"content", "router"}, {"special", true}},
                        {{"id", 0}, {"content", "<|endoftext|>"}, {"special", true}}}}};
  for (const bool ignore_merges : {false, true}) {
    json document = Patched(vocab_patch);
    document.merge_patch(added);
    document["model"]["ignore_merges"] = ignore_merges;
    const Tokenizer tokenizer = Make(document);
    EXPECT_THAT(Ids(tokenizer, "router"), testing::Not(testing::Contains(400)));
    EXPECT_THAT(Ids(tokenizer, "router", SpecialTokens::kParse), ElementsAre(400));
  }
}

TEST(Tokenizer, WholeWordsAreSpelledInTheByteAlphabet) {
  json document = Patched({{"model", {{"ignore_merges", true}, {"merges", json::array()}}}});
  const size_t bytes = Ids(Make(document), " zz").size();
  document["model"]["vocab"][" zz"] = 400;
  EXPECT_EQ(Ids(Make(document), " zz").size(), bytes);
  document["model"]["vocab"]["Ġzz"] = 401;
  EXPECT_THAT(Ids(Make(document), " zz"), ElementsAre(401));
}

TEST(Tokenizer, KnowsItsSpecialTokens) {
  json patch = Golden()["cases"]["added_plain"]["patch"];
  const Tokenizer tokenizer = Make(Patched(patch));
  EXPECT_EQ(tokenizer.SpecialId("<think>"), 1);
  EXPECT_EQ(tokenizer.AddedTokenId("<tool>"), 400);
  EXPECT_EQ(tokenizer.SpecialId("<tool>"), std::nullopt);
  EXPECT_EQ(tokenizer.SpecialId("the"), std::nullopt);
  EXPECT_TRUE(tokenizer.IsSpecial(0));
  for (const int32_t id : {-1, 2, 400, 1000}) EXPECT_FALSE(tokenizer.IsSpecial(id)) << id;
  EXPECT_EQ(tokenizer.vocab_size(), 403);
}

TEST(Tokenizer, EndOfDocumentByName) {
  const auto with = [](std::vector<std::string> names) {
    json document = Golden()["base"];
    document["model"]["vocab"].erase("<|endoftext|>");
    document["model"]["vocab"]["<unused>"] = 0;
    document["added_tokens"] = json::array();
    int id = 400;
    for (const std::string& name : names)
      document["added_tokens"].push_back({{"id", id++}, {"content", name}, {"special", true}});
    return TryMake(document);
  };
  EXPECT_EQ(with({"</s>", "<｜end▁of▁sentence｜>"})->eod_id(), 401);
  EXPECT_EQ(with({"</s>", "<|end_of_text|>", "<｜end▁of▁sentence｜>"})->eod_id(), 401);
  EXPECT_EQ(with({"</s>"})->eod_id(), 400);
  EXPECT_EQ(Message(with({"<end>"}).status()),
            "t.json: added_tokens: no end of document; one of \"<|endoftext|>\", "
            "\"<|end_of_text|>\", \"<｜end▁of▁sentence｜>\", \"</s>\" is "
            "expected");
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8AndKeepsTheIds) {
  const Tokenizer tokenizer = Make(Golden()["base"]);
  IdList ids = {7};
  const absl::Status status = tokenizer.Encode("ab\xC3(", &ids);
  EXPECT_EQ(Message(status), "byte 2 of 4 (0xc3) is not UTF-8");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kData);
  EXPECT_THAT(ids, ElementsAre(7));
  ASSERT_TRUE(tokenizer.Encode("=", &ids).ok());
  EXPECT_EQ(ids.size(), 2u);
}

TEST(Tokenizer, ManyThreadsGetTheSameIds) {
  const Tokenizer tokenizer = Make(Golden()["base"]);
  std::vector<std::string> texts = Golden()["corpus"];
  std::vector<IdList> expected;
  for (const std::string& text : texts) expected.push_back(Ids(tokenizer, text));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 2000; ++i) {
        const size_t which = (i * (t + 1)) % texts.size();
        wrong[t] += Ids(tokenizer, texts[which]) != expected[which];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

}  // namespace
}  // namespace lacuna
