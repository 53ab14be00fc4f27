// A run's model on CUDA says what it says on the CPU: losses, greedy texts of batches, needles and
// the blocks selected for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/status.h"
#include "core/stream.h"
#include "nn/generation.h"
#include "recipes/evaluation/loss.h"
#include "recipes/evaluation/needle.h"
#include "recipes/trainer/load_model.h"
#include "tests/data/shard_fixture.h"
#include "tests/recipes/export_fixture.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

constexpr int64_t kVocabulary = test::kExportVocabulary;

class CudaEvaluation : public testing::TestWithParam<AttentionKind> {
 protected:
  void SetUp() override {
    Recipe recipe = test::SmallRecipe(GetParam(), dir_ / "run");
    recipe.model.yarn = {.factor = 2, .original_length = 50};
    test::WriteRun(recipe);
    test::Documents documents;
    for (const int64_t length : {90, 1, 40, 7, 133}) {
      documents.emplace_back();
      const Tensor ids = test::RandomIds({length - 1}, 26, static_cast<uint64_t>(length));
      for (int64_t i = 0; i + 1 < length; ++i)
        documents.back().push_back('a' + ids.data<int32_t>()[i]);
      documents.back().push_back(test::kByteEod);
    }
    TokenShardInfo info = test::ShardInfo(kVocabulary);
    info.eod_id = test::kByteEod;
    test::WriteShard(dir_ / "v.h5", documents, info);
  }

  LoadedModel Load(DeviceChoice device) const {
    auto loaded = LoadModel(dir_ / "run", 0, {.overrides = {}, .device = device});
    LACUNA_CHECK(loaded.ok(), "{}", Message(loaded.status()));
    return *std::move(loaded);
  }

  // The same weights in f64.
  static BuiltModel Exact(LoadedModel& loaded) {
    const Recipe& recipe = loaded.recipe;
    BuiltModel exact = BuildModel(recipe.model, recipe.nsa, recipe.moe, {}, DType::kF64, 1, false);
    const std::vector<NamedTensor> from = TensorsByName(loaded.model);
    std::vector<NamedTensor> to = TensorsByName(exact);
    for (size_t i = 0; i < to.size(); ++i) to[i].tensor.CopyFrom(from[i].tensor.To(DType::kF64));
    return exact;
  }

  SetLoss Loss(const BuiltModel& built, const LossOptions& options) const {
    const auto set = ValidationSet::Open({.name = "held_out", .path = dir_ / "v.h5"},
                                         options.length, kVocabulary, test::kTokenizerHash);
    LACUNA_CHECK(set.ok(), "{}", Message(set.status()));
    auto loss = EvaluateLoss(*built.model, **set, options);
    LACUNA_CHECK(loss.ok(), "{}", Message(loss.status()));
    return *std::move(loss);
  }

  test::TempDir dir_;
};

TEST_P(CudaEvaluation, AutoTakesTheCard) {
  const LoadedModel cpu = Load(DeviceChoice::kCpu), any = Load(DeviceChoice::kAuto),
                    cuda = Load(DeviceChoice::kCuda);
  EXPECT_EQ(cpu.model.model->device(), kCpu);
  EXPECT_EQ(any.model.model->device(), CudaDevice());
  EXPECT_EQ(cuda.model.model->device(), CudaDevice());
  EXPECT_TRUE(test::SameBits(cuda.model.parameters->master().To(kCpu),
                             cpu.model.parameters->master()));
  const auto refused = LoadModel(
      dir_ / "run", 0, {.overrides = {"train.dtype=f64"}, .device = DeviceChoice::kCuda});
  EXPECT_EQ(ExitCodeOf(refused.status()), ExitCode::kConfig);
  EXPECT_THAT(Message(refused.status()),
              testing::HasSubstr("--device cuda: train.dtype = f64 has no CUDA kernels"));
}

// The CPU in f64 says what rounding costs.
TEST_P(CudaEvaluation, LossIsTheCpus) {
  LoadedModel cpu = Load(DeviceChoice::kCpu), cuda = Load(DeviceChoice::kCuda);
  const BuiltModel f64 = Exact(cpu);
  for (const LossOptions& options :
       {LossOptions{.length = 64}, LossOptions{.length = 100, .targets_from = 20},
        LossOptions{.length = 100, .context = 16}}) {
    const SetLoss expected = Loss(cpu.model, options), actual = Loss(cuda.model, options),
                  exact = Loss(f64, options);
    EXPECT_EQ(actual.total.tokens, expected.total.tokens);
    EXPECT_EQ(actual.total.bytes, expected.total.bytes);
    EXPECT_NEAR(actual.total.loss(), exact.total.loss(),
                3 * std::abs(expected.total.loss() - exact.total.loss()) + 1e-5);
    ASSERT_EQ(actual.buckets.size(), expected.buckets.size());
    for (size_t i = 0; i < actual.buckets.size(); ++i)
      EXPECT_NEAR(actual.buckets[i].loss(), exact.buckets[i].loss(), 1e-4) << i;
  }
}

// Prompts from one token to many, so that sequences are at other places of their blocks and windows;
// two at a time, sequences that end leave their place to the next.
TEST_P(CudaEvaluation, GreedyTextsAreTheCpus) {
  const LoadedModel cpu = Load(DeviceChoice::kCpu), cuda = Load(DeviceChoice::kCuda);
  std::vector<std::vector<int32_t>> prompts;
  for (const int64_t length : {1, 7, 8, 37, 90}) {
    const Tensor ids = test::RandomIds({length}, 256, static_cast<uint64_t>(length));
    prompts.emplace_back(ids.data<int32_t>(), ids.data<int32_t>() + length);
  }
  GenerationOptions options{
      .max_tokens = 30, .stop_ids = {}, .sampling = {.temperature = 0}, .vocabulary_limit = 258};
  const auto expected = Generate(*cpu.model.model, prompts, options);
  const int64_t waits = NumHostWaits();
  EXPECT_EQ(Generate(*cuda.model.model, prompts, options), expected);
  EXPECT_EQ(NumHostWaits() - waits, options.max_tokens) << "one for each token of the batch";
  options.stop_ids = {expected[0][3], expected[4][9]};
  options.batch = 2;
  EXPECT_EQ(Generate(*cuda.model.model, prompts, options),
            Generate(*cpu.model.model, prompts, options));
}

TEST_P(CudaEvaluation, NeedlesAreTheCpus) {
  const LoadedModel cpu = Load(DeviceChoice::kCpu), cuda = Load(DeviceChoice::kCuda);
  const auto tokenizer = LoadTokenizer(cpu);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<std::string> problems;
  const TokenCorpus corpus =
      TokenCorpus::Open(dir_ / "v.h5", {kVocabulary, test::kTokenizerHash}, &problems);
  ASSERT_TRUE(problems.empty()) << problems[0];
  const NeedleOptions options{.lengths = {150, 200}, .depths = {0, 50}, .trials = 2, .seed = 1};
  const bool sparse = GetParam() == AttentionKind::kNsa;
  const auto ask = [&](const LoadedModel& loaded) {
    auto result = EvaluateNeedle(*loaded.model.model, *tokenizer, Haystack(corpus, *tokenizer),
                                 sparse ? loaded.recipe.nsa.select_block : 0,
                                 sparse ? loaded.recipe.nsa.num_selected : 0, options);
    LACUNA_CHECK(result.ok(), "{}", Message(result.status()));
    return *std::move(result);
  };
  const NeedleResult expected = ask(cpu), actual = ask(cuda);
  EXPECT_EQ(actual.layers.size(), sparse ? 3u : 0u);
  ASSERT_EQ(actual.cells.size(), expected.cells.size());
  for (size_t i = 0; i < actual.cells.size(); ++i) {
    EXPECT_EQ(actual.cells[i].correct, expected.cells[i].correct);
    EXPECT_EQ(actual.cells[i].selected, expected.cells[i].selected);
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, CudaEvaluation,
                         testing::Values(AttentionKind::kNsa, AttentionKind::kFull),
                         [](const auto& info) {
                           return std::string(info.param == AttentionKind::kNsa ? "nsa" : "full");
                         });

}  // namespace
}  // namespace lacuna
