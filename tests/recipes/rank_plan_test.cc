// The plan of several ranks: shares, bytes and traffic, by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "recipes/plan/memory.h"
#include "recipes/plan/step_time.h"
#include "recipes/trainer/memory_check.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

constexpr double kGB = 1e9;
constexpr int64_t kGiB = int64_t{1} << 30;

Recipe Paper(const std::vector<std::string>& overrides = {}) {
  const auto recipe = LoadRecipe(
      std::string(std::getenv("LACUNA_SOURCE_DIR")) + "/recipes/nsa_27b/pretrain_8k.yaml",
      overrides, 8);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

TEST(RankPlan, TheStateOfThePapersModelOnEightRanks) {
  // 24.6 B parameters of experts and 3.3 B others: weights and 16 bytes of state each.
  const double experts = 29.0 * 72 * 3 * 2560 * 1536, others = 27.93e9 - experts;
  const RankMemory m = EstimateMemory(Paper(), 8);
  EXPECT_NEAR(static_cast<double>(m.states()) / kGB,
              (18 * experts / 8 + (2 + 16.0 / 8) * others) / kGB, 0.05);
  const RankMemory whole = EstimateMemory(Paper({"parallel.zero=0"}), 8);
  EXPECT_NEAR(static_cast<double>(whole.states()) / kGB, (18 * experts / 8 + 18 * others) / kGB,
              0.1);
  const RankMemory sharded = EstimateMemory(Paper({"parallel.zero=3"}), 8);
  EXPECT_NEAR(static_cast<double>(m.weights - sharded.weights) / kGB, 2 * others * 7 / 8 / kGB,
              0.05);
}

TEST(RankPlan, DestinationsByEnumeration) {
  // 2 of 4 experts on 2 ranks: of 6 pairs, 2 are on one rank and 4 on two.
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", {"parallel.expert=2"}, 2);
  ASSERT_TRUE(recipe.ok());
  EXPECT_NEAR(ExpectedDestinations(*recipe), (2 * 1 + 4 * 2) / 6.0, 1e-12);
  EXPECT_NEAR(ExpectedRemoteDestinations(*recipe), (2 * 1 + 4 * 2) / 12.0, 1e-12);
  EXPECT_NEAR(ExpectedDestinations(Paper()), 4.52, 0.01);
}

TEST(RankPlan, TrafficOfAStep) {
  const Recipe recipe = Paper({"train.recompute=none"});
  const StepTraffic traffic = TrafficOfStep(recipe, 8);
  // 64 micro-batches of 8192 tokens, 29 layers, forward and backward, rows of 2560 bf16.
  EXPECT_NEAR(traffic.dispatch / (64.0 * 8192 * 29 * 2 * ExpectedRemoteDestinations(recipe) * 5120),
              1, 1e-12);
  EXPECT_EQ(traffic.expert_gradient_sum, 0);
  const auto others = static_cast<double>(SharesOf(recipe, 8).others);
  EXPECT_DOUBLE_EQ(traffic.gradient_sum, 64 * others * 4 * 7 / 8);
  EXPECT_DOUBLE_EQ(traffic.weight_gather, others * 2 * 7 / 8);
  EXPECT_DOUBLE_EQ(TrafficOfStep(Paper({"parallel.zero=0"}), 8).gradient_sum,
                   2 * others * 4 * 7 / 8);
}

TEST(RankPlan, WhatDoesNotFitIsRefusedWithWhatHelps) {
  const Recipe recipe = Paper();
  EXPECT_TRUE(CheckMemory(recipe, 8, "card", 80 * kGiB).ok());
  const absl::Status refused = CheckMemory(recipe, 8, "card", 60 * kGiB);
  EXPECT_EQ(ExitCodeOf(refused), ExitCode::kConfig);
  EXPECT_THAT(Message(refused), HasSubstr("a rank (8 ranks), card has 60.00 GiB: optimizer "));
  EXPECT_THAT(Message(refused), testing::ContainsRegex("optimizer.moments: f32 -> bf16 +saves"));
}

}  // namespace
}  // namespace lacuna
