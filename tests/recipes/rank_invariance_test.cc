// The same training steps however the global batch is cut: 1, 2 or 4 ranks, one or several samples
// a micro-batch. 20 steps in f64 agree to 1e-12. One process takes every step with one rank, too,
// and compares.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/recipes/rank_case.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"

namespace lacuna {
namespace {

using test::Build;
using test::kNsaSigmoid;
using test::kRows;
using test::MakeBatch;
using test::Trace;
using test::TrainSteps;
using test::Variant;

class RankInvariance : public testing::TestWithParam<Variant> {};

TEST_P(RankInvariance, TwentySteps) {
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  const Trace one = TrainSteps(GetParam(), *self, {.micro_batch = 1});
  EXPECT_LT(one.losses.back(), one.losses.front()) << "nothing is learnt";
  const Trace many = TrainSteps(GetParam(), test::World(), {.micro_batch = 1});
  EXPECT_TRUE(test::Close(many.losses, one.losses, 1e-12));
  EXPECT_TRUE(test::Close(many.norms, one.norms, 1e-12));
  EXPECT_TRUE(test::Close(many.weights, one.weights, 1e-12));
  EXPECT_TRUE(test::Close(many.bias, one.bias, 0));
}

// The cut into micro-batches plays no part where no loss is a mean over micro-batches.
class MicroBatchInvariance : public testing::TestWithParam<Variant> {};

TEST_P(MicroBatchInvariance, TwentySteps) {
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  const Trace one = TrainSteps(GetParam(), *self, {.micro_batch = 1}),
              two = TrainSteps(GetParam(), test::World(), {.micro_batch = 2});
  EXPECT_TRUE(test::Close(two.losses, one.losses, 1e-12));
  EXPECT_TRUE(test::Close(two.weights, one.weights, 1e-12));
}

// The same run twice gives the same bits.
TEST_P(RankInvariance, Reproducible) {
  SetNumThreads(1);
  const Trace a = TrainSteps(GetParam(), test::World(), {.micro_batch = 1}),
              b = TrainSteps(GetParam(), test::World(), {.micro_batch = 1});
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.weights, b.weights);
}

constexpr Variant kFullMicroBatch{AttentionKind::kFull, RouterKind::kSoftmax,
                                  AuxLossScope::kMicroBatch, "full_softmax_micro_batch"};
constexpr Variant kFullSequence{AttentionKind::kFull, RouterKind::kSoftmax, AuxLossScope::kSequence,
                                "full_softmax_sequence"};

INSTANTIATE_TEST_SUITE_P(All, RankInvariance,
                         testing::Values(kNsaSigmoid, kFullMicroBatch, kFullSequence),
                         [](const auto& info) { return info.param.name; });
// A loss that is a mean over micro-batches depends on their number, so that variant has no place
// here.
INSTANTIATE_TEST_SUITE_P(All, MicroBatchInvariance, testing::Values(kNsaSigmoid, kFullSequence),
                         [](const auto& info) { return info.param.name; });

// A batch without any target and one whose gradients are not finite leave the weights as they were.
TEST(SkippedSteps, WeightsStay) {
  BuiltModel built =
      Build(kNsaSigmoid, DType::kF64, test::ShardingFor(test::World(), /*shard_updates=*/false));
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, test::World());
  TrainingStep step(built, optimizer, reducer, test::World(), 0.5, kRows);
  const std::vector<double> before = built.parameters->master().ToDoubles();
  Batch masked = MakeBatch({test::World().rank()});
  masked.targets = Tensor::FromVector(std::vector<int32_t>(kRows, -1), {kRows});
  masked.num_target_tokens = 0;
  EXPECT_NE(step.Run({masked}, 1e-3, nullptr).skipped.find("no token"), std::string::npos);
  EXPECT_EQ(built.parameters->master().ToDoubles(), before);

  Parameter* poisoned = nullptr;
  built.model->ForEachParameter([&](Parameter& p) {
    poisoned = p.name == "layers.1.self_attn.o_proj.weight" ? &p : poisoned;
  });
  ASSERT_NE(poisoned, nullptr);
  const double good = poisoned->value.data<double>()[0];
  poisoned->value.mutable_data<double>()[0] = NAN;
  const StepResult result = step.Run({MakeBatch({test::World().rank()})}, 1e-3, nullptr);
  EXPECT_NE(result.skipped.find("is not finite"), std::string::npos);
  poisoned->value.mutable_data<double>()[0] = good;
  EXPECT_EQ(built.parameters->master().ToDoubles(), before);
  EXPECT_EQ(optimizer.num_updates(), 0);
}

}  // namespace
}  // namespace lacuna
