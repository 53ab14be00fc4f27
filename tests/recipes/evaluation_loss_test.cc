// Held-out loss by position: the same as training reports, and the same tokens at any context.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "recipes/evaluation/document_windows.h"
#include "recipes/evaluation/loss.h"
#include "recipes/evaluation/report.h"
#include "recipes/trainer/evaluation.h"
#include "tests/data/shard_fixture.h"
#include "tests/recipes/evaluation_fixture.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::TempDir;
using testing::HasSubstr;

// Documents of 90, 1, 40, 7 and 133 tokens.
std::unique_ptr<ValidationSet> OpenSet(const TempDir& dir, int64_t length,
                                       const std::vector<std::vector<uint8_t>>& masks = {}) {
  if (!PathExists(dir / "v.h5"))
    test::WriteShard(dir / "v.h5", test::CountedDocuments({90, 1, 40, 7, 133}), test::ShardInfo(),
                     masks);
  auto set = ValidationSet::Open({.name = "held_out", .path = dir / "v.h5"}, length,
                                 test::kVocabulary, test::kTokenizerHash);
  LACUNA_CHECK(set.ok(), "{}", Message(set.status()));
  return *std::move(set);
}

SetLoss Loss(BuiltModel& built, const ValidationSet& set, const LossOptions& options) {
  auto loss = EvaluateLoss(*built.model, set, options);
  LACUNA_CHECK(loss.ok(), "{}", Message(loss.status()));
  return *std::move(loss);
}

// Loss of token `target` of the document given tokens [begin, target).
double NaiveLoss(BuiltModel& built, const std::vector<int32_t>& document, int64_t begin,
                 int64_t target) {
  const std::vector<int32_t> ids(document.begin() + begin, document.begin() + target);
  const auto n = static_cast<int64_t>(ids.size());
  Tape tape(Tape::Mode::kInference);
  const PackedSequences sequences = PackedSequences::Single(n);
  ForwardContext ctx{.tape = tape, .sequences = sequences};
  const std::vector<double> logits =
      built.model->Logits(ctx, Tensor::FromVector(ids, {n})).Slice(n - 1, n).ToDoubles();
  double sum = 0;
  for (const double x : logits) sum += std::exp(x);
  return std::log(sum) - logits[static_cast<size_t>(document[static_cast<size_t>(target)])];
}

TEST(Windows, EveryTargetOnceWithItsContext) {
  const TempDir dir;
  const auto set = OpenSet(dir, 64);
  for (const int64_t length : {16, 50, 64, 200}) {
    for (const int64_t context : {0, 2, 8, 14}) {
      for (const int64_t from : {int64_t{7}, int64_t{10}}) {
        std::map<std::pair<int64_t, int64_t>, int> seen;
        int64_t pieces = 0;
        for (const Window& w : MakeWindows(set->corpus(), length, context, from, 0, &pieces)) {
          EXPECT_EQ(w.piece % length, 0);
          EXPECT_LE(w.end - w.piece, length);
          for (int64_t i = w.first_target; i < w.end; ++i) {
            ++seen[{w.document, i}];
            EXPECT_GE(i - w.piece, from);
            if (context == 0) {
              EXPECT_EQ(w.begin, w.piece);
            } else {
              EXPECT_GE(i - w.begin, context / 2);
              EXPECT_LT(i - w.begin, context);
            }
          }
        }
        // What must be scored, whatever the context.
        size_t expected = 0;
        for (int64_t d = 0; d < set->corpus().num_documents(); ++d) {
          for (int64_t i = 0; i < set->corpus().Find(d).length; ++i) {
            if (i % length < from) continue;
            ++expected;
            EXPECT_EQ((seen[{d, i}]), 1) << d << " " << i;
          }
        }
        EXPECT_EQ(seen.size(), expected);
      }
    }
  }
  int64_t pieces = 0;
  EXPECT_EQ(MakeWindows(set->corpus(), 64, 0, 8, 2, &pieces),
            (std::vector<Window>{{0, 0, 0, 64, 8}, {0, 64, 64, 90, 72}}));
  EXPECT_EQ(pieces, 2);
}

TEST(EvaluateLoss, PackedIsWhatTrainingReports) {
  const TempDir dir;
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF64, test::kVocabulary);
  std::vector<std::unique_ptr<ValidationSet>> sets;
  sets.push_back(OpenSet(dir, 64));
  const auto comm = MakeSelfCommunicator();
  for (const int64_t samples : {0, 3}) {
    const EvaluationResult reported = (*Evaluate(*built.model, sets, *comm, samples))[0];
    const SetLoss loss = Loss(built, *sets[0], {.length = 64, .samples = samples});
    EXPECT_EQ(loss.total.tokens, reported.tokens);
    EXPECT_EQ(loss.total.bytes, reported.bytes);
    EXPECT_NEAR(loss.total.loss(), reported.loss, 1e-12);
    EXPECT_NEAR(loss.total.bits_per_byte(), reported.bits_per_byte, 1e-12);
    LossBucket sum;
    for (const LossBucket& bucket : loss.buckets) {
      EXPECT_EQ(bucket.end, 2 * bucket.begin);
      sum.tokens += bucket.tokens;
      sum.bytes += bucket.bytes;
      sum.loss_sum += bucket.loss_sum;
    }
    EXPECT_EQ(sum.tokens, loss.total.tokens);
    EXPECT_EQ(sum.bytes, loss.total.bytes);
    EXPECT_NEAR(sum.loss_sum, loss.total.loss_sum, 1e-9);
  }
}

// Against one forward pass for every token, on all of the document before it or on a part.
TEST(EvaluateLoss, ByDocumentEqualsTokenByToken) {
  const TempDir dir;
  const auto documents = test::CountedDocuments({90, 1, 40, 7, 133});
  const auto set = OpenSet(dir, 100);
  for (const AttentionKind kind : {AttentionKind::kFull, AttentionKind::kNsa}) {
    BuiltModel built = test::SmallModel(kind, DType::kF64, test::kVocabulary);
    for (const int64_t context : {0, 32}) {
      std::map<int64_t, double> sums;  // by the start of the bucket
      double total = 0;
      int64_t tokens = 0;
      for (const auto& document : documents) {
        for (int64_t i = 0; i < static_cast<int64_t>(document.size()); ++i) {
          const int64_t piece = i / 100 * 100, position = i - piece;
          if (position < 20) continue;
          // Runs of 16 targets from position 20 on, each with the 16 tokens before it.
          const int64_t run = (position - 20) / 16 * 16 + 20;
          const double loss =
              NaiveLoss(built, document, context == 0 ? piece : piece + run - 16, i);
          sums[position < 32 ? 16 : position < 64 ? 32 : 64] += loss;
          total += loss;
          ++tokens;
        }
      }
      const SetLoss loss =
          Loss(built, *set, {.length = 100, .context = context, .targets_from = 20});
      EXPECT_EQ(loss.total.tokens, tokens);
      EXPECT_NEAR(loss.total.loss_sum, total, 1e-8);
      ASSERT_EQ(loss.buckets.size(), 3u);
      for (const LossBucket& bucket : loss.buckets)
        EXPECT_NEAR(bucket.loss_sum, sums.at(bucket.begin), 1e-8);
      EXPECT_EQ(loss.samples, 4);  // pieces of 90, 40, 100 and 33 tokens
    }
  }
}

TEST(EvaluateLoss, MaskedTokensAreNotScored) {
  const TempDir dir;
  std::vector<std::vector<uint8_t>> masks;
  for (const size_t length : {90, 1, 40, 7, 133}) masks.emplace_back(length, uint8_t{1});
  masks[0][50] = masks[4][21] = 0;
  const auto set = OpenSet(dir, 200, masks);
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF32, test::kVocabulary);
  const int64_t all = (90 - 20) + (40 - 20) + (133 - 20);
  EXPECT_EQ(Loss(built, *set, {.length = 200, .targets_from = 20}).total.tokens, all - 2);
  EXPECT_EQ(Loss(built, *set, {.length = 200, .context = 40}).total.tokens, all - 2);
}

TEST(EvaluateLoss, Errors) {
  const auto complaint = [](const LossOptions& options) { return Message(options.Validate()); };
  EXPECT_THAT(complaint({.length = 1}), HasSubstr("--length 1: must be at least 2"));
  EXPECT_THAT(complaint({.length = 64, .context = 7}), HasSubstr("must be even"));
  EXPECT_THAT(complaint({.length = 64, .context = 128}), HasSubstr("at most the length, 64"));
  EXPECT_THAT(complaint({.length = 64, .context = 32, .targets_from = 15}),
              HasSubstr("--targets-from 15: must be at least half the context, 16"));
  EXPECT_THAT(complaint({.length = 64, .targets_from = 64}), HasSubstr("below the length, 64"));
  EXPECT_EQ(complaint({.length = 64, .context = 32}), "");
  const TempDir dir;
  const auto set = OpenSet(dir, 200);
  BuiltModel built = test::SmallModel(AttentionKind::kNsa, DType::kF32, test::kVocabulary);
  const auto nothing = EvaluateLoss(*built.model, *set, {.length = 200, .targets_from = 150});
  EXPECT_EQ(ExitCodeOf(nothing.status()), ExitCode::kData);
  EXPECT_THAT(Message(nothing.status()), HasSubstr("held_out: no document has a token at"));
}

TEST(Report, WilsonInterval) {
  // Newcombe (1998), table I: 81 of 263 and 0 of 20.
  const Interval some = WilsonInterval(81, 263), none = WilsonInterval(0, 20);
  EXPECT_NEAR(some.low, 0.2553, 5e-5);
  EXPECT_NEAR(some.high, 0.3662, 5e-5);
  EXPECT_NEAR(none.low, 0, 1e-12);
  EXPECT_NEAR(none.high, 0.1611, 5e-5);
}

}  // namespace
}  // namespace lacuna
