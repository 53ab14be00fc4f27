// BPE training.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/parallel.h"
#include "data/tokenizer/bpe_trainer.h"
#include "tests/data/tokenizer_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using nlohmann::json;
using test::Golden;
using test::Ids;
using test::TempDir;

Tokenizer TrainOn(const std::vector<std::string>& texts, const BpeTrainingOptions& options) {
  auto trainer = BpeTrainer::Create(options);
  LACUNA_CHECK(trainer.ok(), "{}", Message(trainer.status()));
  const absl::Status added = trainer->Add({texts.begin(), texts.end()});
  LACUNA_CHECK(added.ok(), "{}", Message(added));
  auto tokenizer = trainer->Train();
  LACUNA_CHECK(tokenizer.ok(), "{}", Message(tokenizer.status()));
  return *std::move(tokenizer);
}

json ToJson(const Tokenizer& tokenizer) {
  const TempDir dir;
  EXPECT_TRUE(tokenizer.Save(dir / "t.json").ok());
  return json::parse(*ReadFile(dir / "t.json", 1 << 24, ExitCode::kData));
}

const std::vector<std::string>& Corpus() {
  static const std::vector<std::string> corpus = Golden()["corpus"];
  return corpus;
}

BpeTrainingOptions GoldenOptions() {
  return {.vocab_size = 400, .special_tokens = {"<|endoftext|>", "<think>"}, .min_frequency = 2};
}

TEST(BpeTrainer, LearnsWhatTheLibraryLearns) {
  const json ours = ToJson(TrainOn(Corpus(), GoldenOptions()))["model"];
  const json& theirs = Golden()["base"]["model"];
  EXPECT_EQ(ours["vocab"], theirs["vocab"]);
  ASSERT_EQ(ours["merges"].size(), theirs["merges"].size());
  for (size_t i = 0; i < ours["merges"].size(); ++i) {
    EXPECT_EQ(ours["merges"][i], theirs["merges"][i][0].get<std::string>() + " " +
                                     theirs["merges"][i][1].get<std::string>())
        << i;
  }
}

TEST(BpeTrainer, ThreadsBatchesAndOrderDoNotMatter) {
  // Documents of more than a megabyte, so that there is something to share out.
  std::vector<std::string> texts;
  for (int i = 0; i < 12; ++i) {
    std::string text;
    for (int k = 0; text.size() < 300'000; ++k)
      text += Corpus()[static_cast<size_t>((i * k + i + k) % 6)] + std::to_string(k * k);
    texts.push_back(text);
  }
  BpeTrainingOptions options = GoldenOptions();
  options.vocab_size = 1000;
  const int threads = NumThreads();
  SetNumThreads(1);
  const uint64_t hash = TrainOn(texts, options).hash();
  SetNumThreads(4);
  EXPECT_EQ(TrainOn(texts, options).hash(), hash);
  std::reverse(texts.begin(), texts.end());
  EXPECT_EQ(TrainOn(texts, options).hash(), hash);
  auto trainer = BpeTrainer::Create(options);
  for (const std::string& text : texts) ASSERT_TRUE(trainer->Add({text}).ok());
  EXPECT_EQ(trainer->Train()->hash(), hash);
  EXPECT_EQ(trainer->Train()->hash(), hash);
  SetNumThreads(threads);
}

TEST(BpeTrainer, TiesGoToTheSmallestIdsAndRarePairsStay) {
  // " ab" and " cd" twice each; (a, b) has smaller ids than (c, d), the space's id is the largest. "xy" comes once.
  BpeTrainingOptions options = GoldenOptions();
  options.vocab_size = 10000;
  const json model = ToJson(TrainOn({" cd ab cd ab xy"}, options))["model"];
  EXPECT_EQ(model["merges"], json({"a b", "c d", "Ġ ab", "Ġ cd"}));
  options.min_frequency = 1;
  EXPECT_EQ(ToJson(TrainOn({" cd ab cd ab xy"}, options))["model"]["merges"],
            json({"a b", "c d", "Ġ ab", "Ġ cd", "x y", "Ġ xy"}));
}

TEST(BpeTrainer, OverlappingPairsAreCountedOnceMerged) {
  BpeTrainingOptions options = GoldenOptions();
  options.vocab_size = 258 + 2;
  const Tokenizer tokenizer = TrainOn({"aaaa aaaa"}, options);
  // (a, a), then (aa, aa).
  EXPECT_EQ(ToJson(tokenizer)["model"]["merges"], json({"a a", "aa aa"}));
  EXPECT_EQ(Ids(tokenizer, "aaaaa").size(), 2u);
}

TEST(BpeTrainer, TextNeverBecomesASpecialToken) {
  BpeTrainingOptions options = GoldenOptions();
  options.special_tokens.push_back("the");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "the the <|endoftext|> ";
  const Tokenizer tokenizer = TrainOn({text}, options);
  for (const int32_t id : Ids(tokenizer, text)) EXPECT_FALSE(tokenizer.IsSpecial(id));
  EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, text)), text);
  EXPECT_EQ(Ids(tokenizer, "the", SpecialTokens::kParse), std::vector<int32_t>{2});
}

TEST(BpeTrainer, DefaultSpecialTokensComeFirst) {
  const Tokenizer tokenizer = TrainOn(Corpus(), {.vocab_size = 330});
  const std::vector<std::string> special = DefaultSpecialTokens();
  ASSERT_EQ(special.size(), 64u);
  for (size_t i = 0; i < special.size(); ++i)
    EXPECT_EQ(tokenizer.SpecialId(special[i]), static_cast<int32_t>(i)) << special[i];
  EXPECT_EQ(tokenizer.eod_id(), 0);
  EXPECT_EQ(tokenizer.vocab_size(), 330);
}

TEST(BpeTrainer, WithoutTextThereAreTheBytes) {
  const Tokenizer tokenizer = TrainOn({}, GoldenOptions());
  EXPECT_EQ(tokenizer.vocab_size(), 258);
  EXPECT_EQ(tokenizer.Decode(Ids(tokenizer, "aé\n")), "aé\n");
}

TEST(BpeTrainer, CutsWordsByNameOrPattern) {
  // "e" and U+0301 are one character in NFC; the digits are one word, or each, or in threes.
  const auto merges = [](const std::string& pattern) {
    BpeTrainingOptions options = GoldenOptions();
    options.words = *ParseWordRules(pattern);
    return ToJson(TrainOn({"1212 1212 e\u0301 e\u0301"}, options))["model"]["merges"];
  };
  EXPECT_EQ(merges("gpt2"), json({"1 2", "Ì ģ", "Ġ e", "12 12"}));
  EXPECT_EQ(merges("llama3"), json({"1 2", "Ì ģ", "Ġ e", "12 1"}));
  EXPECT_EQ(merges("qwen2"), json({"Ã ©", "Ġ Ã©"}));
  EXPECT_EQ(merges("deepseek3"), json({"1 2", "e Ì", "Ġ eÌ", "12 1", "ĠeÌ ģ"}));
  EXPECT_EQ(merges("[0-9]+"), json({"1 2", "e Ì", "Ġ eÌ", "12 12", "ĠeÌ ģ"}));
  EXPECT_EQ(
      Message(ParseWordRules("lama3").status()),
      "pattern \"lama3\": allowed are gpt2, llama3, qwen2, deepseek3, or a regular expression");
  EXPECT_EQ(ExitCodeOf(ParseWordRules("").status()), ExitCode::kConfig);
}

TEST(BpeTrainer, NamesWhatIsWrong) {
  const auto message = [](auto change) {
    BpeTrainingOptions options = GoldenOptions();
    change(options);
    const absl::Status status = BpeTrainer::Create(options).status();
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kConfig);
    return Message(status);
  };
  using Options = BpeTrainingOptions;
  EXPECT_EQ(message([](Options& o) { o.vocab_size = 257; }),
            "vocabulary size: 257, allowed are 258 (2 special tokens, 256 bytes) to 16777216");
  EXPECT_EQ(message([](Options& o) { o.min_frequency = 0; }),
            "minimum frequency: 0, allowed is at least 1");
  EXPECT_EQ(message([](Options& o) { o.words.patterns = {"("}; }).substr(0, 13), "pattern \"(\": ");
  EXPECT_EQ(message([](Options& o) { o.special_tokens[1] = ""; }),
            "special token: \"\" is not allowed");
  EXPECT_EQ(message([](Options& o) { o.special_tokens[1] = "Ġ"; }),
            "special token: \"Ġ\" is one character of the byte alphabet; give a longer one");
  EXPECT_EQ(message([](Options& o) { o.special_tokens[1] = "\xFF"; }),
            "special token: \"\uFFFD\" is not UTF-8");
  EXPECT_EQ(message([](Options& o) { o.special_tokens[1] = "<|endoftext|>"; }),
            "special token: \"<|endoftext|>\" is given twice");
  EXPECT_EQ(message([](Options& o) { o.special_tokens[0] = "<end>"; }).substr(0, 48),
            "special tokens: added_tokens: no end of document");
  auto trainer = BpeTrainer::Create(GoldenOptions());
  const absl::Status status = trainer->Add({"good", "ba\xFF"});
  EXPECT_EQ(Message(status), "document 1: byte 2 of 3 (0xff) is not UTF-8");
  EXPECT_EQ(ExitCodeOf(status), ExitCode::kData);
}

}  // namespace
}  // namespace lacuna
