// Needles: where they are put, what counts as right, and the selected blocks in cases where these
// are known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipes/evaluation/needle.h"
#include "recipes/evaluation/selection.h"
#include "tests/data/shard_fixture.h"
#include "tests/recipes/evaluation_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::HasSubstr;

class Needle : public testing::Test {
 protected:
  Needle() : tokenizer_(test::ByteTokenizer()) {
    TokenShardInfo info = test::ShardInfo(320);
    info.eod_id = tokenizer_.eod_id();
    test::Documents documents;
    for (const std::string text : {"first text about nothing.", "second one, longer than that."}) {
      documents.emplace_back();
      LACUNA_CHECK(tokenizer_.Encode(text, &documents.back()).ok(), "cannot encode");
      documents.back().push_back(info.eod_id);
    }
    test::WriteShard(dir_ / "v.h5", documents, info);
    std::vector<std::string> problems;
    corpus_ = TokenCorpus::Open(dir_ / "v.h5", {320, test::kTokenizerHash}, &problems);
    LACUNA_CHECK(problems.empty(), "{}", problems[0]);
  }

  NeedleTrial Make(int64_t length, int64_t depth, uint64_t trial = 0) {
    auto made = Haystack(corpus_, tokenizer_).Make(length, depth, 1, trial);
    LACUNA_CHECK(made.ok(), "{}", Message(made.status()));
    return *std::move(made);
  }

  NeedleResult Run(BuiltModel& built, const NsaConfig* nsa, const NeedleOptions& options) {
    auto result = EvaluateNeedle(*built.model, tokenizer_, Haystack(corpus_, tokenizer_),
                                 nsa != nullptr ? nsa->select_block : 0,
                                 nsa != nullptr ? nsa->num_selected : 0, options);
    LACUNA_CHECK(result.ok(), "{}", Message(result.status()));
    return *std::move(result);
  }

  const TempDir dir_;
  Tokenizer tokenizer_;
  TokenCorpus corpus_;
};

TEST_F(Needle, IsWhereItShouldBe) {
  for (const int64_t depth : {0, 25, 100}) {
    const NeedleTrial trial = Make(200, depth);
    ASSERT_EQ(trial.ids.size(), 200u);
    const std::string text = tokenizer_.Decode(trial.ids),
                      question = "\nThe secret number of " + trial.city + " is",
                      needle = question + " " + trial.digits + ".\n";
    EXPECT_TRUE(text.ends_with(question)) << text;
    const int64_t around = 200 - static_cast<int64_t>(needle.size() + question.size());
    EXPECT_EQ(static_cast<int64_t>(text.find(needle)), around * depth / 100);
    // A token is a byte here: the number with the space before it.
    EXPECT_EQ(text.substr(static_cast<size_t>(trial.digits_begin),
                          static_cast<size_t>(trial.digits_end - trial.digits_begin)),
              " " + trial.digits);
    EXPECT_EQ(trial.digits.size(), 5u);
    EXPECT_EQ(trial.answer_tokens, 6);
    EXPECT_EQ(text.find("<|endoftext|>"), std::string::npos);
  }
  EXPECT_EQ(Make(200, 25).ids, Make(200, 25).ids);
  EXPECT_NE(Make(200, 25, 0).digits, Make(200, 25, 1).digits);
  EXPECT_EQ(Make(200, 0).digits, Make(150, 75).digits);
  const auto short_one = Haystack(corpus_, tokenizer_).Make(50, 0, 1, 0);
  EXPECT_EQ(ExitCodeOf(short_one.status()), ExitCode::kConfig);
  EXPECT_THAT(Message(short_one.status()), HasSubstr("--lengths 50: needle and question alone"));
}

TEST_F(Needle, SelectedBlocks) {
  NsaConfig nsa = test::kEvaluationNsa;
  nsa.num_selected = 3;  // the forced ones alone: block 0 and the last two
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF32, 320, nsa);
  NeedleOptions options{.lengths = {240}, .depths = {50}, .trials = 2, .seed = 1};
  NeedleResult result = Run(built, &nsa, options);
  EXPECT_THAT(result.layers, testing::ElementsAre(0, 1));
  ASSERT_EQ(result.cells.size(), 1u);
  const std::vector<std::vector<int64_t>> none = {{0, 0}, {0, 0}}, all = {{2, 2}, {2, 2}};
  EXPECT_EQ(result.cells[0].selected, none);
  // As many places as blocks: every list holds every block.
  nsa.num_selected = 15;
  BuiltModel dense = test::SmallModel(AttentionKind::kNsa, DType::kF32, 320, nsa);
  result = Run(dense, &nsa, options);
  EXPECT_EQ(result.cells[0].selected, all);
  const std::string text = NeedleText(result, options);
  EXPECT_THAT(text, HasSubstr("a list holds 15 of 15 blocks"));
  EXPECT_THAT(text, HasSubstr("     240      100.0 %"));
  EXPECT_EQ(NeedleJson(result, options)["cells"][0]["selected"][1][0], 2);
  // Nobody watches the model any more.
  EXPECT_TRUE(SelectionRecorder(*built.model).lists()[0].empty());
}

// The lists are those of the query that predicts the answer: the same as a recorder sees when the
// whole context goes through token by token.
TEST_F(Needle, ListsAreThoseOfTheLastQuery) {
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF64);
  const NeedleTrial trial = Make(180, 25);
  const SelectionRecorder recorder(*built.model);
  SequenceCache cache = built.model->NewCache();
  for (const int32_t id : trial.ids)
    built.model->Extend(Tensor::FromVector(std::vector<int32_t>{id}, {1}),
                        PackedSequences::Single(1), {&cache}, kCpuStream);
  const int64_t first = trial.digits_begin / 16, last = (trial.digits_end - 1) / 16;
  std::vector<std::vector<int64_t>> expected;
  for (const auto& layer : recorder.lists()) {
    expected.emplace_back();
    for (const auto& list : layer) {
      int64_t holds = 1;
      for (int64_t block = first; block <= last; ++block)
        holds = holds && std::find(list.begin(), list.end(), block) != list.end();
      expected.back().push_back(holds);
    }
  }
  const NeedleResult result =
      Run(built, &test::kEvaluationNsa, {.lengths = {180}, .depths = {25}, .trials = 1, .seed = 1});
  EXPECT_EQ(result.cells[0].selected, expected);
}

// A model that knows the context by heart answers it, and only it.
TEST_F(Needle, RightAnswersCount) {
  for (const AttentionKind kind : {AttentionKind::kFull, AttentionKind::kNsa}) {
    BuiltModel built = test::SmallModel(kind, DType::kF32);
    const NeedleTrial known = Make(130, 25);
    std::vector<int32_t> ids = known.ids;
    LACUNA_CHECK(tokenizer_.Encode(" " + known.digits + ".", &ids).ok(), "cannot encode");
    test::LearnByHeart(built, ids, known.ids.size());
    const bool sparse = kind == AttentionKind::kNsa;
    const NeedleOptions options{.lengths = {130}, .depths = {25}, .trials = 1, .seed = 1};
    const NeedleResult result = Run(built, sparse ? &test::kEvaluationNsa : nullptr, options);
    EXPECT_EQ(result.cells[0].correct, 1);
    EXPECT_EQ(result.layers.size(), sparse ? 2u : 0u);
    EXPECT_EQ(NeedleText(result, options).find("selected") != std::string::npos, sparse);
    // The same context with one more digit behind the number is another, wrong, answer.
    BuiltModel wrong = test::SmallModel(kind, DType::kF32);
    ids = known.ids;
    LACUNA_CHECK(tokenizer_.Encode(" " + known.digits + "7", &ids).ok(), "cannot encode");
    test::LearnByHeart(wrong, ids, known.ids.size());
    EXPECT_EQ(Run(wrong, sparse ? &test::kEvaluationNsa : nullptr, options).cells[0].correct, 0);
  }
}

TEST_F(Needle, OptionErrors) {
  EXPECT_THAT(Message(NeedleOptions{.lengths = {}}.Validate()), HasSubstr("--lengths"));
  EXPECT_THAT(Message(NeedleOptions{.depths = {101}}.Validate()), HasSubstr("--depths 101"));
  EXPECT_THAT(Message(NeedleOptions{.trials = 0}.Validate()), HasSubstr("--trials 0"));
  EXPECT_TRUE(NeedleOptions{}.Validate().ok());
}

}  // namespace
}  // namespace lacuna
