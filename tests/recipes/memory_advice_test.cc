// Who holds a training step's memory, and what a run without memory is told to change.
#include "recipes/trainer/memory_advice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/allocator.h"
#include "distributed/gradient_reducer.h"
#include "recipes/plan/memory.h"
#include "recipes/trainer/training_step.h"
#include "tests/recipes/schema_texts.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

Recipe Parsed(const std::vector<std::string>& overrides) {
  auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

OutOfMemory Request(MemoryCategory category, int64_t bytes,
                    std::initializer_list<std::pair<MemoryCategory, int64_t>> held) {
  OutOfMemory request;
  MemoryLedger ledger;
  for (const auto& [of, size] : held) ledger.Add(of, size);
  request.category = category;
  request.bytes = bytes;
  request.stats = ledger.stats();
  return request;
}

// The keys in the order of the lines.
std::vector<std::string> Keys(const std::string& advice) {
  std::vector<std::string> keys;
  for (size_t at = advice.find("\n  "); at != advice.npos; at = advice.find("\n  ", at + 1))
    keys.push_back(advice.substr(at + 3, advice.find(':', at) - at - 3));
  return keys;
}

TEST(MemoryAdvice, ActivationsAreHalvedOrRecomputed) {
  const Recipe recipe = Parsed({"train.micro_batch=4", "train.sequence_length=512"});
  const OutOfMemory request =
      Request(MemoryCategory::kActivations, kGiB,
              {{MemoryCategory::kActivations, 9 * kGiB}, {MemoryCategory::kOptimizer, kGiB}});
  const std::string advice = MemoryAdvice(recipe, 1, request);
  const std::vector<std::string> keys = Keys(advice);
  ASSERT_GE(keys.size(), 3u) << advice;
  EXPECT_EQ(keys[0], "train.recompute") << advice;
  EXPECT_EQ(keys[1], "train.micro_batch") << advice;
  EXPECT_EQ(keys[2], "train.sequence_length") << advice;
  EXPECT_THAT(advice, HasSubstr("train.recompute: none -> block "));
  // Half of ten GiB.
  EXPECT_THAT(advice,
              testing::ContainsRegex("train.micro_batch: 4 -> 2 +saves about +5.00 GiB; the "
                                     "same step in more micro-batches; --resume accepts"));
  EXPECT_THAT(advice, testing::ContainsRegex("train.sequence_length: 512 -> 256 +saves about +5.00 "
                                             "GiB; other samples, a run of its own\n"));
  EXPECT_THAT(advice, Not(HasSubstr("a smaller model")));
}

TEST(MemoryAdvice, TheModelsStateIsTheModel) {
  const Recipe recipe = Parsed({"train.micro_batch=2"});
  const OutOfMemory request =
      Request(MemoryCategory::kOptimizer, 4 * kGiB,
              {{MemoryCategory::kParameters, 4 * kGiB}, {MemoryCategory::kGradients, 4 * kGiB}});
  const std::string advice = MemoryAdvice(recipe, 1, request);
  EXPECT_THAT(advice, HasSubstr("  a smaller model: model.num_layers = 2, model.width = 64, "
                                "moe.num_experts = 4, moe.expert_width = 32\n"));
  // What the estimate says of activations is far below a GiB, whatever is done about it.
  EXPECT_THAT(advice, Not(testing::ContainsRegex("(micro_batch|recompute)[^\n]*GiB")));
  const Recipe dense = Parsed({"model.num_dense_layers=2"});
  EXPECT_THAT(MemoryAdvice(dense, 1, request), Not(HasSubstr("moe.")));
}

TEST(MemoryAdvice, OnlyWhatIsAllowedAndNotSoAlready) {
  const OutOfMemory request =
      Request(MemoryCategory::kActivations, kGiB, {{MemoryCategory::kActivations, 9 * kGiB}});
  const std::string advice = MemoryAdvice(Parsed({"train.recompute=block"}), 1, request);
  EXPECT_THAT(advice, Not(HasSubstr("train.micro_batch")));  // it is 1
  EXPECT_THAT(advice, Not(HasSubstr("-> block")));
  EXPECT_THAT(advice, Not(HasSubstr("recompute_keeps")));
  EXPECT_THAT(MemoryAdvice(Parsed({"train.recompute=block", "train.recompute_keeps=attention"}), 1,
                           request),
              HasSubstr("train.recompute_keeps: attention -> none "));
  // Of 6 samples in micro-batches of 6, 3 is the next that divides them.
  EXPECT_THAT(MemoryAdvice(Parsed({"train.micro_batch=6", "train.global_batch=6"}), 1, request),
              HasSubstr("train.micro_batch: 6 -> 3 "));
  // 9 samples cannot be halved: 3.
  EXPECT_THAT(MemoryAdvice(Parsed({"train.micro_batch=9", "train.global_batch=9"}), 1, request),
              HasSubstr("train.micro_batch: 9 -> 3 "));
}

TEST(MemoryAdvice, TypesDependOnTheDevice) {
  OutOfMemory request =
      Request(MemoryCategory::kActivations, kGiB, {{MemoryCategory::kActivations, 9 * kGiB}});
  EXPECT_THAT(MemoryAdvice(Parsed({}), 1, request), Not(HasSubstr("train.dtype")));
  EXPECT_THAT(MemoryAdvice(Parsed({"train.dtype=f64"}), 1, request),
              HasSubstr("train.dtype: f64 -> f32 "));
  request.device.type = DeviceType::kCuda;
  EXPECT_THAT(MemoryAdvice(Parsed({}), 1, request), HasSubstr("train.dtype: f32 -> bf16 "));
  EXPECT_THAT(MemoryAdvice(Parsed({"train.dtype=bf16"}), 1, request),
              Not(HasSubstr("train.dtype")));
}

TEST(MemoryAdvice, ALimitIsNamedFirst) {
  OutOfMemory request =
      Request(MemoryCategory::kActivations, kGiB, {{MemoryCategory::kActivations, 9 * kGiB}});
  request.limit = 9 * kGiB;
  const std::string advice = MemoryAdvice(Parsed({"train.memory_limit_gib=9"}), 1, request);
  EXPECT_EQ(Keys(advice)[0], "train.memory_limit_gib") << advice;
}

TEST(MemoryAdvice, BucketsOfGradients) {
  const OutOfMemory request = Request(
      MemoryCategory::kCommunication, kGiB,
      {{MemoryCategory::kCommunication, 2 * kGiB}, {MemoryCategory::kActivations, 4 * kGiB}});
  EXPECT_THAT(MemoryAdvice(Parsed({}), 2, request), HasSubstr("  train.bucket_mb: 32, smaller"));
}

constexpr int64_t kRows = 256, kVocabulary = 512;

// A model and its training, on the CPU.
struct Training {
  explicit Training(const Recipe& recipe)
      : built(BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                         recipe.train.dtype, 7)),
        optimizer(*built.parameters, recipe.optimizer),
        reducer(*built.parameters, *comm),
        step(built, optimizer, reducer, *comm, 1.0, kRows) {
    batch.ids = test::RandomIds({kRows}, kVocabulary, 1);
    batch.targets = test::RandomIds({kRows}, kVocabulary, 2);
    batch.sequences = PackedSequences({0, kRows});
    batch.num_target_tokens = kRows;
    batch.tokens_per_source = {kRows};
    batch.source_of_sample = {0};
  }

  std::unique_ptr<Communicator> comm = MakeSelfCommunicator();
  BuiltModel built;
  AdamW optimizer;
  GradientReducer reducer;
  TrainingStep step;
  Batch batch;
};

// Categories of real steps.
class StepMemory : public testing::TestWithParam<const char*> {};

TEST_P(StepMemory, IsBookedToWhoHoldsIt) {
  const Recipe recipe = Parsed({"train.dtype=bf16", std::string("train.recompute=") + GetParam()});
  const MemoryStats before = CpuMemoryStats();
  Training training(recipe);
  ResetMemoryPeak(kCpu);
  const MemoryStats built_stats = CpuMemoryStats();
  training.step.Run({training.batch}, 1e-3, nullptr);
  const MemoryStats after = CpuMemoryStats();

  const int64_t n = training.built.parameters->size();
  const auto in_use = [&](MemoryCategory category) {
    return static_cast<double>(built_stats.of(category).in_use - before.of(category).in_use);
  };
  // The allocator's sizes are up to an eighth larger.
  const auto expect = [&](MemoryCategory category, int64_t bytes) {
    EXPECT_GE(in_use(category), static_cast<double>(bytes)) << NameOf(category);
    EXPECT_LE(in_use(category), 1.125 * static_cast<double>(bytes)) << NameOf(category);
  };
  expect(MemoryCategory::kParameters, 2 * n);
  expect(MemoryCategory::kGradients, 4 * n);
  expect(MemoryCategory::kOptimizer, SizeOf(training.built.parameters->master().dtype()) * n +
                                         training.optimizer.first_moment().bytes() +
                                         training.optimizer.second_moment().bytes());
  const auto peak = [&](MemoryCategory category) { return after.of(category).peak; };
  // Kept for backward, and besides what a forward rule needs on its way.
  const RankMemory plan = EstimateMemory(recipe);
  EXPECT_GT(peak(MemoryCategory::kActivations), plan.activations / 2);
  EXPECT_GE(peak(MemoryCategory::kLogits), kRows * kVocabulary * 2);
  EXPECT_GT(peak(MemoryCategory::kActivationGradients), kRows * recipe.model.width * 2);
  EXPECT_EQ(peak(MemoryCategory::kRecomputed) > 0, std::string(GetParam()) != "none");
  for (const MemoryCategory gone :
       {MemoryCategory::kActivations, MemoryCategory::kRecomputed, MemoryCategory::kLogits,
        MemoryCategory::kActivationGradients, MemoryCategory::kWorkspace})
    EXPECT_EQ(after.of(gone).in_use, before.of(gone).in_use) << NameOf(gone);
  EXPECT_EQ(after.of(MemoryCategory::kOptimizer).in_use,
            built_stats.of(MemoryCategory::kOptimizer).in_use);
}

// Wherever a step ends for want of memory, the next one has all of it again and the weights of
// before.
TEST_P(StepMemory, AStepThatFailsLeavesNothingBehind) {
  // Without the routers' bias, which steps move.
  Training training(
      Parsed({"moe.bias_update_rate=0.0", std::string("train.recompute=") + GetParam()}));
  training.step.Run({training.batch}, 1e-3, nullptr);
  const Tensor weights = training.built.parameters->master().Clone();
  const int64_t held = CpuMemoryStats().in_use;
  ResetMemoryPeak(kCpu);
  const double loss = training.step.Run({training.batch}, 0.0, nullptr).loss;
  const int64_t most = CpuMemoryStats().peak - held;
  for (int part = 1; part < 20; ++part) {
    SetMemoryLimit(kCpu, held + most * part / 20);
    EXPECT_THROW(training.step.Run({training.batch}, 1e-3, nullptr), OutOfMemoryError) << part;
    EXPECT_TRUE(test::SameBits(training.built.parameters->master(), weights)) << part;
  }
  SetMemoryLimit(kCpu, 0);
  EXPECT_EQ(training.step.Run({training.batch}, 0.0, nullptr).loss, loss);
  EXPECT_EQ(CpuMemoryStats().in_use, held);
}

INSTANTIATE_TEST_SUITE_P(Recompute, StepMemory,
                         testing::Values("none", "block", "[attention]", "[feed_forward]"),
                         [](const auto& info) { return "policy" + std::to_string(info.index); });

}  // namespace
}  // namespace lacuna
