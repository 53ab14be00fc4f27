// tokenizer.json: reading, refusing, writing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/tokenizer/pattern.h"
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

TEST(TokenizerJson, SavedAndLoadedIsTheSame) {
  const TempDir dir;
  for (const auto& [name, golden] : Golden()["cases"].items()) {
    const Tokenizer tokenizer = Make(Patched(golden["patch"]));
    ASSERT_TRUE(tokenizer.Save(dir / "t.json").ok());
    const auto loaded = Tokenizer::Load(dir / "t.json");
    ASSERT_TRUE(loaded.ok()) << Message(loaded.status());
    EXPECT_EQ(loaded->hash(), tokenizer.hash()) << name;
    ASSERT_TRUE(loaded->Save(dir / "again.json").ok());
    EXPECT_EQ(*ReadFile(dir / "again.json", 1 << 24, ExitCode::kData),
              *ReadFile(dir / "t.json", 1 << 24, ExitCode::kData))
        << name;
    // Nothing of the document is lost; only the merges have changed their form.
    json saved = json::parse(*ReadFile(dir / "t.json", 1 << 24, ExitCode::kData));
    json expected = Patched(golden["patch"]);
    for (json& merge : expected["model"]["merges"])
      merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
    for (const char* key : {"normalizer", "truncation", "padding", "post_processor"}) {
      if (!expected.contains(key)) expected[key] = nullptr;
    }
    EXPECT_EQ(saved, expected) << name;
  }
}

TEST(TokenizerJson, HashSeesContentOnly) {
  const json base = Golden()["base"];
  const uint64_t hash = Make(base).hash();
  EXPECT_EQ(Tokenizer::FromJson(base.dump(4), "other name")->hash(), hash);
  json legacy = base;
  for (json& merge : legacy["model"]["merges"])
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  EXPECT_EQ(Make(legacy).hash(), hash);
  json swapped = base;
  std::swap(swapped["model"]["merges"][0], swapped["model"]["merges"][1]);
  EXPECT_NE(Make(swapped).hash(), hash);
  EXPECT_NE(Make(Patched({{"normalizer", {{"type", "NFC"}}}})).hash(), hash);
}

struct Refusal {
  const char* patch;  // a JSON merge patch of the golden tokenizer
  std::string message;
};

TEST(TokenizerJson, RefusesByName) {
  const std::vector<Refusal> refusals = {
      {R"({"model": {"type": "Unigram"}})",
       "t.json: model.type: \"Unigram\" is not supported, only BPE is"},
      {R"({"model": {"dropout": 0.1}})", "t.json: model.dropout: found 0.1, expected null"},
      {R"({"model": {"end_of_word_suffix": "</w>"}})",
       "t.json: model.end_of_word_suffix: found \"</w>\", expected null or \"\""},
      {R"({"model": {"continuing_subword_prefix": "##"}})",
       "t.json: model.continuing_subword_prefix: found \"##\", expected null or \"\""},
      {R"({"model": {"ignore_merges": 1}})",
       "t.json: model.ignore_merges: found 1, expected true or false"},
      {R"({"model": {"vocab": {"new": -1}}})",
       "t.json: model.vocab[\"new\"]: found -1, expected a token id, 0 to 65936"},
      {R"({"model": {"vocab": {"new": 65937}}})",
       "t.json: model.vocab[\"new\"]: found 65937, expected a token id, 0 to 65936"},
      {R"({"model": {"vocab": {"new": 1.0}}})",
       "t.json: model.vocab[\"new\"]: found 1.0, expected a token id, 0 to 65936"},
      {R"({"model": {"vocab": {"new": 399}}})", "which another token has, too"},
      {R"({"model": {"vocab": {"Ġ": null}}})",
       "t.json: model.vocab: has no token for byte 0x20 (\"Ġ\"); a byte-level vocabulary has all "
       "256"},
      {R"({"model": {"vocab": []}})",
       "t.json: model.vocab: found [], expected an object of tokens and their ids"},
      {R"({"model": {"merges": [["a", "b", "c"]]}})",
       "t.json: model.merges[0]: found [\"a\",\"b\",\"c\"], expected \"a b\" or [\"a\", \"b\"]"},
      {R"({"model": {"merges": ["a  b"]}})",
       "t.json: model.merges[0]: found \"a  b\", expected \"a b\" or [\"a\", \"b\"]"},
      {R"({"model": {"merges": ["= =", "q q"]}})",
       "t.json: model.merges[1]: \"qq\" is not in the vocabulary"},
      {R"({"model": {"merges": null}})",
       "t.json: model.merges: found nothing, expected a list of merges"},
      {R"({"model": null})", "t.json: model: found nothing, expected an object"},
      {R"({"normalizer": {"type": "Lowercase"}})",
       "t.json: normalizer.type: \"Lowercase\" is not supported; allowed are NFC, NFD, NFKC, NFKD, "
       "Sequence"},
      {R"({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip"}]}})",
       "t.json: normalizer.normalizers[1].type: \"Strip\" is not supported; allowed are NFC, NFD, "
       "NFKC, NFKD, Sequence"},
      {R"({"pre_tokenizer": null})", "t.json: pre_tokenizer: has no ByteLevel as its last step"},
      {R"({"pre_tokenizer": {"type": "Metaspace"}})",
       "t.json: pre_tokenizer.type: \"Metaspace\" is not supported; allowed are ByteLevel, Split, "
       "Digits, Sequence"},
      {R"({"pre_tokenizer": {"type": "Digits", "pretokenizers": null}})",
       "t.json: pre_tokenizer: has no ByteLevel as its last step"},
      {R"({"pre_tokenizer": {"pretokenizers": [{"type": "Punctuation"}, {"type": "ByteLevel"}]}})",
       "t.json: pre_tokenizer.pretokenizers[0].type: \"Punctuation\" is not supported; allowed are "
       "ByteLevel, Split, Digits, Sequence"},
      {R"({"pre_tokenizer": {"pretokenizers": [{"type": "ByteLevel"}, {"type": "ByteLevel"}]}})",
       "t.json: pre_tokenizer.pretokenizers[0]: ByteLevel must be the last step"},
      {R"({"pre_tokenizer": {"pretokenizers": [{"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Dropped"}, {"type": "ByteLevel"}]}})",
       "t.json: pre_tokenizer.pretokenizers[0].behavior: \"Dropped\" is not supported; allowed are "
       "Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous"},
      {R"({"pre_tokenizer": {"pretokenizers": [{"type": "Split", "pattern": {"Regex": "\\w"}, "behavior": "Isolated"}, {"type": "ByteLevel"}]}})",
       "t.json: pre_tokenizer.pretokenizers[0].pattern.Regex: pattern \"\\w\": \"\\w\" at byte 0 "
       "is not supported"},
      {R"({"decoder": {"type": "Metaspace"}})",
       "t.json: decoder.type: \"Metaspace\" is not supported; allowed are ByteLevel, Sequence"},
      {R"({"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "Reverse"}]}})",
       "t.json: post_processor.processors[1].type: \"Reverse\" is not supported; allowed are "
       "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing, Sequence"},
      {R"({"decoder": null})", "t.json: decoder: has 0 steps, expected one ByteLevel"},
      {R"({"added_tokens": [{"id": 5, "content": "<x>"}]})",
       "t.json: added_tokens[0]: \"<x>\" has id 5, which a token of the vocabulary has, too"},
      {R"({"added_tokens": [{"id": 500, "content": "<think>"}]})",
       "t.json: added_tokens[0]: \"<think>\" has id 500, in the vocabulary it has 1"},
      {R"({"added_tokens": [{"id": 400, "content": "<x>"}, {"id": 401, "content": "<x>"}]})",
       "t.json: added_tokens[1]: \"<x>\" is listed twice"},
      {R"({"added_tokens": [{"id": 400, "content": "<x>"}, {"id": 400, "content": "<y>"}]})",
       "t.json: added_tokens[1]: \"<y>\" has id 400, which \"<x>\" has, too"},
      {R"({"added_tokens": [{"id": 500, "content": ""}]})",
       "t.json: added_tokens[0].content: is empty"},
      {R"({"added_tokens": [{"content": "<x>"}]})",
       "t.json: added_tokens[0].id: found nothing, expected a token id, 0 to 16777215"},
      {R"({"added_tokens": [{"id": 400, "content": "<x>", "single_word": 1}]})",
       "t.json: added_tokens[0].single_word: found 1, expected true or false"},
      {R"({"added_tokens": [{"id": 500, "content": "<x>"}]})",
       "t.json: added_tokens[0]: \"<x>\" has id 500, must have 400: added tokens are counted from "
       "the vocabulary's size on"},
      {R"({"added_tokens": [{"id": 1, "content": "<think>"}, {"id": 400, "content": "<x>"}, {"id": 402, "content": "<y>"}]})",
       "t.json: added_tokens[2]: \"<y>\" has id 402, must have 401: added tokens are counted from "
       "the vocabulary's size on"},
  };
  ASSERT_TRUE(TryMake(Golden()["base"]).ok());
  for (const Refusal& refusal : refusals) {
    const absl::Status status = TryMake(Patched(json::parse(refusal.patch))).status();
    EXPECT_FALSE(status.ok()) << refusal.patch;
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kData) << refusal.patch;
    // The parts that name the golden vocabulary's tokens are left open.
    if (std::string_view(refusal.message).substr(0, 6) == "t.json") {
      EXPECT_EQ(Message(status), refusal.message);
    } else {
      EXPECT_THAT(Message(status), testing::EndsWith(refusal.message));
    }
  }
}

TEST(TokenizerJson, NamesTheFileAndPlaceOfDamage) {
  const TempDir dir;
  EXPECT_EQ(Message(Tokenizer::Load(dir / "none.json").status()),
            dir / "none.json: cannot open: No such file or directory");
  const auto message = [](const std::string& text) {
    return Message(Tokenizer::FromJson(text, "t.json").status());
  };
  EXPECT_THAT(message("{\n  \"model\": }"),
              testing::StartsWith("t.json: parse error at line 2, column 12: "));
  EXPECT_THAT(message(""), testing::StartsWith("t.json: parse error at line 1, column 1: "));
  EXPECT_EQ(message("[1]"), "t.json: found [1], expected an object");
  EXPECT_EQ(message(std::string(100000, '[') + std::string(100000, ']')),
            "t.json: nested more than 64 levels deep");
  const std::string whole = Golden()["base"].dump();
  for (size_t size = 0; size < whole.size(); size += 97)
    EXPECT_FALSE(Tokenizer::FromJson(whole.substr(0, size), "t.json").ok()) << size;
}

TEST(TokenizerJson, MessagesAreOneLine) {
  const auto message = [](const json& patch) { return Message(TryMake(Patched(patch)).status()); };
  EXPECT_EQ(message({{"model", {{"vocab", {{"a\nb\t\x01", -1}}}}}}),
            "t.json: model.vocab[\"a\\nb\\t\\x01\"]: found -1, expected a token id, 0 to 65936");
  EXPECT_EQ(message({{"decoder", {{"type", "a\nb"}}}}),
            "t.json: decoder.type: \"a\\nb\" is not supported; allowed are ByteLevel, Sequence");
  const std::string long_name = message({{"model", {{"vocab", {{std::string(5000, 'x'), -1}}}}}});
  EXPECT_LT(long_name.size(), 700u);
  EXPECT_EQ(Message(Pattern::Compile("\r\n(").status()).find('\n'), std::string::npos);
}

TEST(TokenizerJson, APairListedTwiceHasItsLastRank) {
  // "aab": with (a, a) first, "aa" + "b"; with (a, b) first, "a" + "ab".
  json patch = {{"model", {{"vocab", {{"aa", 400}, {"ab", 401}}}, {"merges", {"a a", "a b"}}}}};
  const Tokenizer once = Make(Patched(patch));
  EXPECT_EQ(once.Decode({&Ids(once, "aab")[0], 1}), "aa");
  patch["model"]["merges"] = {"a a", "a b", "a a"};
  const Tokenizer twice = Make(Patched(patch));
  EXPECT_EQ(twice.Decode({&Ids(twice, "aab")[0], 1}), "a");
}

}  // namespace
}  // namespace lacuna
