// The plan's numbers: by hand, against the paper, against models that were built, against memory
// that was measured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/allocator.h"
#include "recipes/model_builder.h"
#include "recipes/plan/memory.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/report.h"
#include "tests/recipes/schema_texts.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

Recipe FromFile(const std::string& name, const std::vector<std::string>& overrides = {}) {
  const auto recipe =
      LoadRecipe(std::string(std::getenv("LACUNA_SOURCE_DIR")) + "/recipes/" + name, overrides, 1);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

TEST(ModelSize, PaperModels) {
  const ParameterCounts full = CountParameters(FromFile("nsa_27b/pretrain_8k_full.yaml"));
  EXPECT_EQ(full.embeddings, 2LL * 102400 * 2560);
  EXPECT_EQ(full.attention, 30LL * 2560 * (64 * 192 + 4 * 192 + 4 * 128 + 64 * 128));
  EXPECT_EQ(full.nsa, 0);
  EXPECT_EQ(full.dense_ffn, 3LL * 2560 * 12288);
  EXPECT_EQ(full.shared_experts, 29LL * 3 * 2560 * 2 * 1536);
  EXPECT_EQ(full.routed_experts, 29LL * 72 * 3 * 2560 * 1536);
  EXPECT_EQ(full.active_experts(), 29LL * 8 * 3 * 2560 * 1536);  // the paper's "3B active"
  EXPECT_EQ(FormatMagnitude(static_cast<double>(full.total())), "27.61 B");
  EXPECT_EQ(FormatMagnitude(static_cast<double>(full.active())), "5.03 B");

  const ParameterCounts nsa = CountParameters(FromFile("nsa_27b/pretrain_8k.yaml"));
  const int64_t phi_k = 32 * 192 + 384 * 32 * 192 + 192 * 384,
                phi_v = 32 * 128 + 256 * 32 * 128 + 128 * 256;
  EXPECT_EQ(nsa.nsa, 30 * (2LL * 2560 * 4 * (192 + 128) + phi_k + phi_v + 3LL * 64 * 2560));
  EXPECT_EQ(nsa.total() - nsa.nsa, full.total());
  EXPECT_EQ(FormatMagnitude(static_cast<double>(nsa.total())), "27.93 B");
}

// Twins differ in what they are named and in their attention, nowhere else.
TEST(Recipes, TwinsDifferInAttentionAlone) {
  for (const auto& [sparse, full] : std::vector<std::pair<std::string, std::string>>{
           {"quickstart.yaml", "quickstart_full.yaml"},
           {"small/pretrain.yaml", "small/pretrain_full.yaml"},
           {"small/extend.yaml", "small/extend_full.yaml"},
           {"small/sft.yaml", "small/sft_full.yaml"},
           {"300m/pretrain_8k.yaml", "300m/pretrain_8k_full.yaml"},
           {"300m/extend_32k_yarn.yaml", "300m/extend_32k_yarn_full.yaml"},
           {"300m/sft_long_cot.yaml", "300m/sft_long_cot_full.yaml"},
           {"nsa_27b/pretrain_8k.yaml", "nsa_27b/pretrain_8k_full.yaml"},
           {"nsa_27b/extend_32k_yarn.yaml", "nsa_27b/extend_32k_yarn_full.yaml"},
           {"nsa_27b/sft_long_cot.yaml", "nsa_27b/sft_long_cot_full.yaml"}}) {
    SCOPED_TRACE(full);
    Recipe a = FromFile(sparse), b = FromFile(full);
    EXPECT_TRUE(a.uses_nsa());
    EXPECT_FALSE(b.uses_nsa());
    EXPECT_NE(a.run.name, b.run.name);
    EXPECT_NE(a.run.dir, b.run.dir);
    b.run.name = a.run.name;
    b.run.dir = a.run.dir;
    if (!a.init_from.path.empty()) {
      EXPECT_EQ(b.init_from.path, a.init_from.path + "_full");
      b.init_from.path = a.init_from.path;
    }
    b.model.attention = a.model.attention;
    // cuDNN's deterministic backward takes more memory at 32k than there is.
    if (full.starts_with("nsa_27b/")) b.train.deterministic = a.train.deterministic;
    EXPECT_EQ(ToYaml(a), ToYaml(b));
  }
}

TEST(ModelSize, EqualsTheBuiltModel) {
  const std::vector<std::vector<std::string>> variants = {
      {},
      {"model.attention=full"},
      {"model.tie_embeddings=true"},
      {"model.qk_norm=true"},
      {"model.attention=full", "model.qk_norm=true"},
      {"nsa.phi=linear"},
      {"nsa.phi=mean"},
      {"nsa.phi_hidden=3"},
      {"moe.num_shared=0"},
      {"model.num_dense_layers=0", "moe.num_shared=2"},
      {"model.num_dense_layers=2"},
  };
  for (const auto& overrides : variants) {
    const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    const BuiltModel built =
        BuildModel(recipe->model, recipe->nsa, recipe->moe, {}, DType::kF32, 1);
    int64_t total = 0, norms = 0, routed = 0, phi = 0;
    built.model->ForEachParameter([&](Parameter& p) {
      total += p.numel();
      norms += p.name.find("norm") != p.name.npos ? p.numel() : 0;
      routed += p.name.find("mlp.experts.") != p.name.npos ? p.numel() : 0;
      phi += p.name.find(".phi_") != p.name.npos ? p.numel() : 0;
    });
    const ParameterCounts n = CountParameters(*recipe);
    const std::string shown = fmt::format("{}", fmt::join(overrides, " "));
    EXPECT_EQ(n.total(), total) << shown;
    EXPECT_EQ(n.norms, norms) << shown;
    EXPECT_EQ(n.routed_experts, routed) << shown;
    if (recipe->uses_nsa()) {
      EXPECT_EQ(2 * (PhiParameters(recipe->nsa, 24) + PhiParameters(recipe->nsa, 16)), phi)
          << shown;
    }
  }
}

// Every pair of a query and what it may read, one by one.
TEST(ModelSize, PairsByEnumeration) {
  for (const NsaConfig& nsa :
       {NsaConfig{.block = 32, .stride = 16, .select_block = 64, .num_selected = 4, .window = 50},
        NsaConfig{.block = 16, .stride = 8, .select_block = 32, .num_selected = 8, .window = 128},
        NsaConfig{.block = 8, .stride = 8, .select_block = 8, .num_selected = 3, .window = 1}}) {
    for (const int64_t tokens : {1, 7, 31, 32, 33, 64, 200, 513}) {
      AttentionPairs expected;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t s = 0; s <= t; ++s) {
          ++expected.full;
          expected.window += s > t - nsa.window ? 1 : 0;
        }
        for (int64_t begin = 0; begin + nsa.block <= t + 1; begin += nsa.stride) ++expected.cmp;
        // The own block up to t, and n - 1 whole ones before it.
        int64_t whole = 0;
        for (int64_t block = 0; block < t / nsa.select_block && whole < nsa.num_selected - 1;
             ++block)
          ++whole;
        for (int64_t s = t / nsa.select_block * nsa.select_block; s <= t; ++s) ++expected.selected;
        expected.selected += whole * nsa.select_block;
      }
      const AttentionPairs pairs = CountPairs(nsa, tokens);
      EXPECT_EQ(pairs.full, expected.full) << tokens;
      EXPECT_EQ(pairs.cmp, expected.cmp) << tokens;
      EXPECT_EQ(pairs.selected, expected.selected) << tokens;
      EXPECT_EQ(pairs.window, expected.window) << tokens;
    }
  }
}

TEST(ModelSize, TokensOfADecodeStep) {
  const NsaConfig nsa;  // the paper's; its Table 4 rounds up: 2048, 2560, 3584, 5632
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 8192), 2047);
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 16384), 2559);
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 32768), 3583);
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 65536), 5631);
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 1), 2);    // itself, twice: selected and window
  EXPECT_EQ(TokensReadPerDecodeStep(nsa, 32), 65);  // and one compressed block
}

TEST(ModelSize, TrainingFlops) {
  // By hand for the quick start: q, k, v, o 800 x 256; k and v of a branch 160 x 256; gates 24 x
  // 256; 4 layers.
  const Recipe recipe = FromFile("quickstart.yaml");
  const TrainingFlops f = FlopsPerToken(recipe);
  const double attention = 4.0 * (800 + 2 * 160 + 24) * 256, dense = 3.0 * 256 * 768;
  const double experts = 3.0 * 3 * 256 * 192 * 3, router = 3.0 * 8 * 256, head = 2048.0 * 256;
  EXPECT_DOUBLE_EQ(f.matrices, 6 * (attention + dense + experts + router + head));
  const double phi = 2.0 * 48 * (16 * 48 + 48) + 2.0 * 32 * (16 * 32 + 32);
  EXPECT_DOUBLE_EQ(f.phi, 6 * 4 * phi * 2 * 255 / 2048);
  EXPECT_DOUBLE_EQ(f.full_attention, 6 * 4 * 8 * 80 * 2049.0 / 2);
  EXPECT_DOUBLE_EQ(f.attention,
                   6 * 4 * 8 * 80 * static_cast<double>(CountPairs(recipe.nsa, 2048).nsa()) / 2048);
  const TrainingFlops full = FlopsPerToken(FromFile("quickstart_full.yaml"));
  EXPECT_EQ(full.phi, 0);
  EXPECT_DOUBLE_EQ(full.attention, f.full_attention);
  EXPECT_EQ(FlopsPerToken(FromFile("quickstart.yaml", {"model.tie_embeddings=true"})).matrices,
            f.matrices);
}

// What a step of the built model holds, against the estimate.
class Memory : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Memory, EstimateIsNearTheMeasured) {
  std::vector<std::string> overrides = GetParam();
  overrides.insert(overrides.end(), {"train.sequence_length=1024"});
  const Recipe recipe = FromFile("quickstart.yaml", overrides);
  const RankMemory expected = EstimateMemory(recipe);
  const int64_t before = CpuMemoryStats().in_use;
  const BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, recipe.train.recompute,
                                      recipe.train.dtype, 1);
  const int64_t parameters = CpuMemoryStats().in_use - before;
  // The allocator hands out blocks of up to an eighth more than was asked for.
  const int64_t states = expected.weights + expected.gradients + expected.master;
  EXPECT_GE(parameters, states);
  EXPECT_LE(static_cast<double>(parameters), 1.125 * static_cast<double>(states));

  const int32_t rows = 1024;
  const PackedSequences sequences({0, rows});
  const Tensor ids = test::RandomIds({rows}, 2048, 1), targets = test::RandomIds({rows}, 2048, 2);
  ResetCpuMemoryPeak();
  const int64_t start = CpuMemoryStats().in_use;
  Tape tape;
  ForwardContext ctx{.tape = tape, .sequences = sequences, .rows_per_sample = rows};
  const auto result = built.model->Loss(ctx, ids, targets, 1.0 / rows);
  tape.BackwardFrom(result.loss);
  const double peak = static_cast<double>(CpuMemoryStats().peak - start);
  const double estimate = static_cast<double>(expected.activations + expected.transient);
  EXPECT_NEAR(estimate, peak, 0.03 * peak);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Memory,
    testing::Values(
        std::vector<std::string>{}, std::vector<std::string>{"model.attention=full"},
        std::vector<std::string>{"moe.experts_per_token=6"},
        std::vector<std::string>{"moe.experts_per_token=6", "train.recompute=block"},
        std::vector<std::string>{"moe.experts_per_token=6", "train.recompute=[feed_forward]"},
        std::vector<std::string>{"train.dtype=bf16"},
        std::vector<std::string>{"train.recompute=block"},
        std::vector<std::string>{"nsa.phi=mean", "model.qk_norm=true"},
        std::vector<std::string>{"nsa.phi=linear", "model.tie_embeddings=true"},
        std::vector<std::string>{"model.num_dense_layers=4", "model.attention=full",
                                 "model.qk_norm=true"},
        std::vector<std::string>{"train.recompute=[attention]"},
        std::vector<std::string>{"train.recompute=block", "train.recompute_keeps=attention"},
        std::vector<std::string>{"train.recompute=[attention]", "train.recompute_keeps=attention"},
        std::vector<std::string>{"train.recompute=block", "train.recompute_keeps=attention",
                                 "model.attention=full"},
        std::vector<std::string>{"train.recompute=[feed_forward]"}));

}  // namespace
}  // namespace lacuna
