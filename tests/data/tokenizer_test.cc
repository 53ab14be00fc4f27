// Tokenizers against ids of the `tokenizers` library (tokenizer_golden.json, made by tokenizer_golden.py), training against what the
// library learns, and what must be refused.
#include "data/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/parallel.h"
#include "data/tokenizer/bpe_trainer.h"

namespace lacuna {
namespace {

using nlohmann::json;

const json& Golden() {
  static const json golden = [] {
    const char* source = std::getenv("LACUNA_SOURCE_DIR");
    std::ifstream file(std::string(source == nullptr ? "." : source) + "/tests/data/tokenizer_golden.json");
    return json::parse(file);
  }();
  return golden;
}

absl::StatusOr<Tokenizer> Patched(const json& patch) {
  json tokenizer = Golden()["base"];
  tokenizer.merge_patch(patch);
  return Tokenizer::FromJson(tokenizer.dump(), "golden");
}

Tokenizer Base() {
  auto tokenizer = Patched(json::object());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, const std::string& text, SpecialTokens specials = SpecialTokens::kAsText) {
  std::vector<int32_t> ids;
  const absl::Status status = tokenizer.Encode(text, &ids, specials);
  EXPECT_TRUE(status.ok()) << status;
  return ids;
}

class TokenizerGolden : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerGolden, SameIds) {
  const json& golden = Golden()["cases"][GetParam()];
  const auto tokenizer = Patched(golden["patch"]);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const json& texts = Golden()["texts"];
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    EXPECT_EQ(Encoded(*tokenizer, text), golden["as_text"][i].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(Encoded(*tokenizer, text, SpecialTokens::kParse), golden["parsed"][i].get<std::vector<int32_t>>()) << text;
  }
}

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& [name, value] : Golden()["cases"].items()) names.push_back(name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden, testing::ValuesIn(CaseNames()), [](const auto& info) { return info.param; });

TEST(Tokenizer, DecodeGivesTheTextBack) {
  const Tokenizer tokenizer = Base();
  for (const json& text : Golden()["texts"]) {
    for (const SpecialTokens specials : {SpecialTokens::kAsText, SpecialTokens::kParse}) {
      EXPECT_EQ(tokenizer.Decode(Encoded(tokenizer, text, specials)), text.get<std::string>());
    }
  }
}

// A document cannot forge its own end.
TEST(Tokenizer, SpecialTokensInTextAreText) {
  const Tokenizer tokenizer = Base();
  const int32_t eod = tokenizer.eod_id();
  for (const int32_t id : Encoded(tokenizer, "a<|endoftext|>b")) EXPECT_NE(id, eod);
  const auto parsed = Encoded(tokenizer, "a<|endoftext|>b", SpecialTokens::kParse);
  EXPECT_EQ(std::count(parsed.begin(), parsed.end(), eod), 1);
}

TEST(Tokenizer, SavedCopyIsTheSame) {
  const Tokenizer tokenizer = Base();
  const std::string path = testing::TempDir() + "/lacuna_tokenizer_test.json";
  ASSERT_TRUE(tokenizer.Save(path).ok());
  const auto copy = Tokenizer::Load(path);
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->hash(), tokenizer.hash());
  for (const json& text : Golden()["texts"]) EXPECT_EQ(Encoded(*copy, text), Encoded(tokenizer, text));
  // Another merge is another tokenizer.
  json other = Golden()["base"];
  other["model"]["merges"].erase(other["model"]["merges"].size() - 1);
  EXPECT_NE(Tokenizer::FromJson(other.dump(), "other")->hash(), tokenizer.hash());
}

TEST(Tokenizer, InvalidUtf8NamesTheByte) {
  const Tokenizer tokenizer = Base();
  for (const std::string& bad : {std::string("abc\xff def"), std::string("abc\xc3"), std::string("abc\xed\xa0\x80"), std::string("abc\xc0\x80")}) {
    std::vector<int32_t> ids{7};
    const absl::Status status = tokenizer.Encode(bad, &ids);
    EXPECT_FALSE(status.ok());
    EXPECT_NE(std::string(status.message()).find("3"), std::string::npos) << status;
    EXPECT_EQ(ids, (std::vector<int32_t>{7}));
  }
}

// One word of a megabyte must not take quadratic time.
TEST(Tokenizer, HugeWords) {
  const Tokenizer tokenizer = Base();
  for (const char c : {'a', ' ', '^', '\n', '_'}) {
    const std::string text(1 << 20, c);
    EXPECT_EQ(tokenizer.Decode(Encoded(tokenizer, text)), text);
  }
}

TEST(Tokenizer, UnknownPartsAreRefusedByName) {
  const std::pair<json, std::string> cases[] = {
      {{{"model", {{"type", "WordPiece"}}}}, "WordPiece"},
      {{{"normalizer", {{"type", "Lowercase"}}}}, "Lowercase"},
      {{{"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", json::array({{{"type", "Metaspace"}}, {{"type", "ByteLevel"}}})}}}}, "Metaspace"},
      {{{"decoder", {{"type", "WordPiece"}}}}, "WordPiece"},
      {{{"model", {{"dropout", 0.1}}}}, "dropout"},
      {{{"model", {{"merges", json::array({"zzz yyy"})}}}}, "zzz"},
  };
  for (const auto& [patch, name] : cases) {
    const auto tokenizer = Patched(patch);
    ASSERT_FALSE(tokenizer.ok()) << patch;
    EXPECT_NE(std::string(tokenizer.status().message()).find(name), std::string::npos) << tokenizer.status();
    EXPECT_EQ(std::string(tokenizer.status().message()).find('\n'), std::string::npos);
  }
  EXPECT_FALSE(Tokenizer::FromJson("{", "cut").ok());
  EXPECT_FALSE(Tokenizer::FromJson("[]", "list").ok());
  EXPECT_FALSE(Tokenizer::Load("/nonexistent/tokenizer.json").ok());
}

absl::StatusOr<Tokenizer> Learn(int64_t vocab_size, std::vector<std::string> special) {
  auto trainer = BpeTrainer::Create({.vocab_size = vocab_size, .special_tokens = std::move(special)});
  if (!trainer.ok()) return trainer.status();
  const auto corpus = Golden()["corpus"].get<std::vector<std::string>>();
  const absl::Status status = trainer->Add({corpus.begin(), corpus.end()});
  if (!status.ok()) return status;
  return trainer->Train();
}

TEST(BpeTrainer, LearnsWhatTheLibraryLearns) {
  const auto learnt = Learn(400, {"<|endoftext|>", "<think>"});
  ASSERT_TRUE(learnt.ok()) << learnt.status();
  const std::string path = testing::TempDir() + "/lacuna_learnt.json";
  ASSERT_TRUE(learnt->Save(path).ok());
  std::ifstream file(path);
  const json mine = json::parse(file), &theirs = Golden()["base"];
  EXPECT_EQ(mine["model"]["vocab"], theirs["model"]["vocab"]);
  const json& merges = theirs["model"]["merges"];
  ASSERT_EQ(mine["model"]["merges"].size(), merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string expected = merges[i].is_array() ? merges[i][0].get<std::string>() + " " + merges[i][1].get<std::string>() : merges[i].get<std::string>();
    EXPECT_EQ(mine["model"]["merges"][i].get<std::string>(), expected);
  }
}

TEST(BpeTrainer, ThreadsAndOrderOfDocumentsPlayNoPart) {
  const int threads = NumThreads();
  std::vector<std::string> documents;
  for (int copy = 0; copy < 20; ++copy) {
    for (const json& text : Golden()["corpus"]) documents.push_back(text);
  }
  std::vector<uint64_t> hashes;
  for (const int n : {1, 2, 3}) {
    SetNumThreads(n);
    std::rotate(documents.begin(), documents.begin() + 7, documents.end());
    auto trainer = BpeTrainer::Create({.vocab_size = 500});
    ASSERT_TRUE(trainer.ok());
    ASSERT_TRUE(trainer->Add({documents.begin(), documents.end()}).ok());
    hashes.push_back(trainer->Train()->hash());
  }
  SetNumThreads(threads);
  EXPECT_EQ(hashes[0], hashes[1]);
  EXPECT_EQ(hashes[0], hashes[2]);
}

TEST(BpeTrainer, BadOptions) {
  EXPECT_FALSE(Learn(100, {"<|endoftext|>"}).ok());  // fewer than the bytes
  EXPECT_FALSE(Learn(400, {"<|endoftext|>", "<|endoftext|>"}).ok());
  EXPECT_FALSE(BpeTrainer::Create({.vocab_size = 400, .pattern = "("}).ok());
}

// One tokenizer serves many threads.
TEST(Tokenizer, ThreadsShareIt) {
  const Tokenizer tokenizer = Base();
  const auto text = Golden()["corpus"][1].get<std::string>();
  const auto expected = Encoded(tokenizer, text);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        std::vector<int32_t> ids;
        equal[t] += tokenizer.Encode(text, &ids).ok() && ids == expected;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(equal, (std::vector<int>{200, 200, 200, 200}));
}

}  // namespace
}  // namespace lacuna
