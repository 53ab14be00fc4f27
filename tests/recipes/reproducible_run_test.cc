// Keys that decide which bits a run gives, train.deterministic and optimizer.moments: in rules, in
// a resume's comparison, in memory and in a training step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/parallel.h"
#include "core/stream.h"
#include "distributed/gradient_reducer.h"
#include "recipes/model_builder.h"
#include "recipes/plan/memory.h"
#include "recipes/trainer/device.h"
#include "recipes/trainer/recipe_diff.h"
#include "recipes/trainer/training_step.h"
#include "tests/recipes/schema_texts.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::Complaint;
using test::Edited;
using testing::HasSubstr;

constexpr int64_t kAnyLength = std::numeric_limits<int64_t>::max();

Recipe WithOverrides(std::vector<std::string> overrides) {
  overrides.push_back("model.attention=full");
  auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
  EXPECT_TRUE(recipe.ok()) << recipe.status();
  return *std::move(recipe);
}

TEST(Determinism, LongSamplesAreRefusedUntilTheRecipeAcceptsThem) {
  const Recipe recipe = WithOverrides({"train.sequence_length=384"});
  EXPECT_TRUE(CheckDeterminism(recipe, 384).ok());
  EXPECT_TRUE(CheckDeterminism(recipe, kAnyLength).ok());
  const absl::Status refused = CheckDeterminism(recipe, 256);
  EXPECT_EQ(ExitCodeOf(refused), ExitCode::kConfig);
  EXPECT_EQ(Message(refused),
            "train.deterministic = true: train.sequence_length = 384: full attention through cuDNN "
            "is deterministic for documents of at most 256 tokens with 4 heads in 2 groups; "
            "train.deterministic = false accepts gradients whose last bits differ from run to run");
  EXPECT_TRUE(CheckDeterminism(
                  WithOverrides({"train.sequence_length=384", "train.deterministic=false"}), 256)
                  .ok());
}

// The CPU's kernels, and those of sparse attention, have no longest document.
TEST(Determinism, OfAnyLengthOnTheCpu) {
  Recipe recipe = WithOverrides({"train.sequence_length=65536", "train.dtype=bf16"});
  EXPECT_EQ(LongestDeterministicDocument(recipe, kCpu), kAnyLength);
  recipe.model.attention = AttentionKind::kNsa;
  EXPECT_EQ(LongestDeterministicDocument(recipe, CudaDevice()), kAnyLength);
}

// Like the device or the micro-batch it says how a run is carried out.
TEST(Determinism, MayChangeInAResume) {
  const Recipe recipe = WithOverrides({});
  EXPECT_TRUE(
      CheckSameRun(recipe, ToYaml(WithOverrides({"train.deterministic=false"})), "step_1", {})
          .ok());
}

std::string Without(std::string yaml, const std::string& line) {
  const size_t at = yaml.find(line);
  LACUNA_CHECK(at != yaml.npos, "no \"{}\" in the recipe", line);
  return yaml.erase(at, line.size());
}

TEST(Mesh, MayChangeOnResume) {
  const Recipe wide = WithOverrides({"parallel.expert=2", "parallel.zero=2"});
  EXPECT_TRUE(CheckSameRun(wide, ToYaml(WithOverrides({})), "step_1", {}).ok());
  // A checkpoint from before there was the section.
  const std::string yaml = ToYaml(wide);
  const std::string section = yaml.substr(yaml.find("parallel:\n"));  // the last one
  EXPECT_THAT(section, testing::HasSubstr("\n  expert: 2\n"));
  const std::string old = Without(yaml, section);
  EXPECT_TRUE(CheckSameRun(wide, old, "step_1", {}).ok());
}

TEST(Moments, AreThoseOfTheRun) {
  const Recipe f32 = WithOverrides({}), bf16 = WithOverrides({"optimizer.moments=bf16"});
  const absl::Status refused = CheckSameRun(bf16, ToYaml(f32), "step_1", {});
  EXPECT_EQ(ExitCodeOf(refused), ExitCode::kCheckpoint);
  EXPECT_THAT(Message(refused),
              HasSubstr("optimizer.moments: f32 in the checkpoint, bf16 in the recipe"));
  // A checkpoint from before there was the key has f32 moments.
  const std::string old = Without(ToYaml(f32), "  moments: f32\n");
  EXPECT_TRUE(CheckSameRun(f32, old, "step_1", {}).ok());
  EXPECT_FALSE(CheckSameRun(bf16, old, "step_1", {}).ok());
}

TEST(Moments, TypesAndDecays) {
  EXPECT_THAT(Complaint(test::kValidRecipe, {"optimizer.moments=f64"}),
              HasSubstr("optimizer.moments: expected one of f32, bf16, got \"f64\""));
  EXPECT_EQ(Complaint(test::kValidRecipe, {"optimizer.moments=bf16", "optimizer.beta2=0.999"}),
            "--set optimizer.beta2: optimizer.beta2 = 0.999: must be at most 0.995 where "
            "optimizer.moments is bf16");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"optimizer.moments=bf16", "optimizer.beta2=0.99"}), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"optimizer.beta2=0.999"}), "");
}

TEST(Moments, MemoryOfTheirType) {
  for (const auto& [dtype, f32_bytes] : {std::pair{"f32", 8}, {"bf16", 8}, {"f64", 16}}) {
    const std::string type = std::string("train.dtype=") + dtype;
    const RankMemory wide = EstimateMemory(WithOverrides({type})),
                     narrow = EstimateMemory(WithOverrides({type, "optimizer.moments=bf16"}));
    EXPECT_EQ(narrow.moments * f32_bytes, wide.moments * 4) << dtype;
    EXPECT_EQ(wide.total() - narrow.total(), wide.moments - narrow.moments) << dtype;
  }
}

constexpr int64_t kRows = 64, kVocabulary = 512;

Batch MakeBatch() {
  Batch batch;
  batch.ids = test::RandomIds({kRows}, kVocabulary, 5);
  std::vector<int32_t> targets(batch.ids.data<int32_t>() + 1, batch.ids.data<int32_t>() + kRows);
  targets.push_back(-1);
  batch.targets = Tensor::FromVector(targets, {kRows});
  batch.sequences = PackedSequences::Single(kRows);
  batch.num_target_tokens = kRows - 1;
  batch.tokens_per_source = {kRows};
  batch.source_of_sample = {0};
  return batch;
}

struct Trained {
  std::vector<double> losses;
  DType m, v;
};

// The same samples again and again, so that the loss falls fast.
Trained Train(const Recipe& recipe, int steps) {
  const auto comm = MakeSelfCommunicator();
  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, {}, recipe.train.dtype, 7);
  AdamW optimizer(*built.parameters, recipe.optimizer);
  GradientReducer reducer(*built.parameters, *comm);
  TrainingStep step(built, optimizer, reducer, *comm, 1.0, kRows);
  Trained trained{
      .losses = {}, .m = optimizer.first_moment().dtype(), .v = optimizer.second_moment().dtype()};
  for (int s = 0; s < steps; ++s)
    trained.losses.push_back(step.Run({MakeBatch()}, 3e-3, nullptr).loss);
  return trained;
}

TEST(Moments, Bf16TrainsAsF32Does) {
  constexpr int kSteps = 30;
  SetNumThreads(1);
  for (const std::string dtype : {"f32", "bf16", "f64"}) {
    const std::string type = "train.dtype=" + dtype;
    const Trained wide = Train(WithOverrides({type}), kSteps),
                  narrow = Train(WithOverrides({type, "optimizer.moments=bf16"}), kSteps);
    EXPECT_EQ(wide.m, dtype == "f64" ? DType::kF64 : DType::kF32);
    EXPECT_EQ(wide.v, wide.m);
    EXPECT_EQ(narrow.m, DType::kBF16);
    EXPECT_EQ(narrow.v, DType::kBF16);
    ASSERT_LT(wide.losses.back(), 0.5 * wide.losses.front()) << "nothing is learnt";
    EXPECT_EQ(narrow.losses.front(), wide.losses.front());
    const double learnt = wide.losses.front() - wide.losses.back();
    for (int s = 0; s < kSteps; ++s) {
      const auto i = static_cast<size_t>(s);
      EXPECT_NEAR(narrow.losses[i], wide.losses[i], 0.03 * learnt) << dtype << " step " << s;
    }
    // The moments are rounded: another run, if only in its last bits.
    EXPECT_NE(narrow.losses.back(), wide.losses.back());
  }
}

}  // namespace
}  // namespace lacuna
