// lacuna selftest passes on ranks that compute what one rank does, and fails where a sum over ranks is
// wrong.
#include "recipes/trainer/self_test.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/parallel.h"
#include "recipes/trainer/training_trace.h"
#include "tests/support/communicator_before.h"
#include "tests/support/mpi_world.h"

namespace lacuna {
namespace {

using test::World;

TEST(SelfTest, PassesOnRanksThatAgree) {
  SetNumThreads(1);
  const auto result = RunSelfTest(World(), kCpu);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->passed()) << result->Table();
  EXPECT_EQ(result->rows.size(), World().size() == 2 ? 14 : 20);
  for (const SelfTestRow& row : result->rows) {
    // A token in each of two layers with experts; random numbers are seldom as close as bf16 resolves.
    EXPECT_EQ(row.routing.rows, 2 * World().size() * 2 * 192) << row.what;
    EXPECT_GT(row.routing.near_ties, 0) << row.what;
    EXPECT_LT(row.routing.near_ties, row.routing.rows / 5) << row.what;
  }
}

TEST(SelfTest, RoutingIsComparedRowByRow) {
  const std::vector<double> record = {0, 1, 2, 5, 3, 4, /*near ties*/ 2};
  EXPECT_EQ(CompareRouting(record, record, 2).alike, 3);
  std::vector<double> other = record;
  other[3] = 6;
  const RoutingAgreement agreement = CompareRouting(other, record, 2);
  EXPECT_EQ(agreement.rows, 3);
  EXPECT_EQ(agreement.alike, 2);
  EXPECT_EQ(agreement.near_ties, 2);
  EXPECT_EQ(CompareRouting({0, 1, 0}, record, 2).alike, 0);
}

TEST(SelfTest, StepsAreAlikeUntilAChoiceIsAnother) {
  const TrainingTrace one{.losses = {3, 2, 1},
                          .norms = {},
                          .telemetry = {},
                          .bias = {},
                          .routing = {},
                          .choices = {7, 9, 8, 8, 6, 10}};
  TrainingTrace other = one;
  EXPECT_EQ(StepsWithTheSameChoices(other, one), 3);
  other.choices[3] = 9;
  EXPECT_EQ(StepsWithTheSameChoices(other, one), 1);
  other.choices[0] = 6;
  EXPECT_EQ(StepsWithTheSameChoices(other, one), 0);
  other.losses = {3, 2.5, 1};
  EXPECT_EQ(LargestDifference(other.losses, one.losses, 1e-3, 0, 1), 0);
  EXPECT_EQ(LargestDifference(other.losses, one.losses, 1e-3, 1), 0.25);
}

TEST(SelfTest, LossesBehindAnotherChoiceHaveALimitOfTheirOwn) {
  SelfTestRow row{.what = "f32", .limit = 1e-5, .routing = {.rows = 1, .alike = 1}};
  row.late_limit = 1e-2;
  row.late_loss = 9e-3;
  EXPECT_TRUE(row.passed());
  row.late_loss = 2e-2;
  EXPECT_FALSE(row.passed());
}

TEST(SelfTest, AnUnknownTypeIsNamed) {
  const auto result = RunSelfTest(World(), kCpu, {.dtype = DType::kBF16});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.status().message().find("bf16"), std::string::npos);
}

TEST(SelfTest, MoreStepsCompareTheLoss) {
  SetNumThreads(1);
  std::vector<int64_t> steps;
  const auto result =
      RunSelfTest(World(), kCpu,
                  {.steps = 6,
                   .dtype = DType::kF32,
                   .match = "^f32, zero 0$",
                   .on_step = [&](const std::string&, int64_t step) { steps.push_back(step); }});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->passed()) << result->Table();
  ASSERT_EQ(result->rows.size(), 1);
  EXPECT_EQ(result->rows[0].what, "f32, zero 0");
  std::vector<int64_t> expected = {1, 2, 3, 4, 5, 6};
  if (World().rank() == 0) expected.insert(expected.end(), {1, 2, 3, 4, 5, 6});  // the one rank
  EXPECT_EQ(steps, expected);
}

TEST(SelfTest, APatternThatFindsNothingListsTheWays) {
  const auto result = RunSelfTest(World(), kCpu, {.match = "zero 4"});
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.status().message(), testing::HasSubstr("zero 4"));
  EXPECT_THAT(result.status().message(), testing::HasSubstr("\n  f64, zero 3, recompute\n"));
}

// Gradients' sums come back with one element a little too large.
class WrongSums : public test::CommunicatorBefore {
 public:
  using CommunicatorBefore::CommunicatorBefore;

  Request AllReduceSum(Tensor tensor) override {
    CommunicatorBefore::AllReduceSum(tensor).Wait();
    if (tensor.dtype() == DType::kF64 && tensor.numel() > 1000)
      tensor.mutable_data<double>()[tensor.numel() / 2] += 1e-6;
    if (tensor.dtype() == DType::kF32 && tensor.numel() > 1000)
      tensor.mutable_data<float>()[tensor.numel() / 2] += 0.1F;
    return {};
  }
};

TEST(SelfTest, FailsWhereASumIsWrong) {
  SetNumThreads(1);
  WrongSums wrong(World());
  const auto result = RunSelfTest(wrong, kCpu);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->passed());
  // Those whose gradients go through it, in both types.
  for (const SelfTestRow& row : result->rows) {
    if (row.what.find("zero 0") == std::string::npos) continue;
    EXPECT_FALSE(row.passed()) << row.what;
  }
  EXPECT_NE(result->Table().find("FAILED"), std::string::npos);
}

}  // namespace
}  // namespace lacuna
