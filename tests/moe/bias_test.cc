// The correction bias of the sigmoid router (auxiliary-loss-free balancing, arXiv 2408.15664).
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "moe/bias_update.h"
#include "tests/moe/moe_fixture.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using test::MoeFixture;
using test::RandomTensor;

MoeConfig Config(double rate) {
  return {.num_experts = 6,
          .experts_per_token = 2,
          .expert_width = 4,
          .num_shared = 0,
          .bias_update_rate = rate};
}

TEST(Bias, MovesAgainstTheLoadByTheRate) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    MoeFixture f(8, Config(0.125), dtype);
    ASSERT_EQ(f.Bias().dtype(), AccumulationType(dtype));
    f.layer().step_counts().CopyFrom(
        Tensor::FromVector(std::vector<double>{0, 10, 5, 5, 4, 6}, {6}));
    f.layer().UpdateBias();
    EXPECT_EQ(f.Bias().ToDoubles(), (std::vector<double>{.125, -.125, 0, 0, .125, -.125}));
    f.layer().UpdateBias();
    EXPECT_EQ(f.Bias().ToDoubles(), (std::vector<double>{.25, -.25, 0, 0, .25, -.25}));
    f.layer().ResetCounts();
    f.layer().UpdateBias();
    EXPECT_EQ(f.Bias().ToDoubles(), (std::vector<double>{.25, -.25, 0, 0, .25, -.25}))
        << "no choices, no move";
  }
}

TEST(Bias, CountsAndBiasesThatDoNotFitAreAnError) {
  const Tensor counts = Tensor::Zeros({6}, DType::kF64);
  for (Tensor bias : {Tensor::Zeros({5}, DType::kF32), Tensor::Zeros({6}, DType::kBF16)}) {
    EXPECT_THROW(
        ops::UpdateBias({.counts = counts.Ref(), .bias = bias.MutableRef(), .rate = 1}, kCpuStream),
        Error);
  }
}

// Counts of a mean that is no whole number, and of a step with several micro-batches.
TEST(Bias, CountsOfAStepAddUp) {
  MoeFixture f(8, Config(0.5), DType::kF64);
  std::vector<double> expected(6, 0.0);
  for (uint64_t micro_batch = 0; micro_batch < 3; ++micro_batch) {
    const Tensor x = RandomTensor({13, 8}, DType::kF64, micro_batch);
    for (const int id :
         test::RunNaive<double>(f.Naive(x), x.ToDoubles(), [](double v) { return v; }).ids)
      expected[id] += 1;
    f.Step(x, x);
  }
  EXPECT_EQ(f.layer().step_counts().ToDoubles(), expected);
  f.layer().UpdateBias();
  for (size_t e = 0; e < 6; ++e)
    EXPECT_EQ(f.Bias().ToDoubles()[e], expected[e] < 13 ? 0.5 : expected[e] > 13 ? -0.5 : 0) << e;
}

// One layer with its update switched off leaves those before and after it alone.
TEST(Bias, EveryLayerIsUpdatedByItsOwnCounts) {
  const std::vector<double> rates = {0.25, 0, 0.25, 0.25};
  std::vector<std::unique_ptr<MoeFixture>> layers;
  for (size_t i = 0; i < rates.size(); ++i)
    layers.push_back(std::make_unique<MoeFixture>(8, Config(rates[i]), DType::kF64, i + 1));
  Tensor x = RandomTensor({50, 8}, DType::kF64, 9);
  for (auto& layer : layers) x = layer->Step(x, x)[0];
  for (auto& layer : layers) layer->layer().UpdateBias();
  for (size_t i = 0; i < rates.size(); ++i) {
    const std::vector<double> counts = layers[i]->layer().step_counts().ToDoubles(),
                              bias = layers[i]->Bias().ToDoubles();
    const double mean = 100.0 / 6;
    for (size_t e = 0; e < 6; ++e)
      EXPECT_EQ(bias[e], counts[e] < mean ? rates[i] : -rates[i])
          << "layer " << i << " expert " << e;
  }
}

TEST(Bias, TheSoftmaxRouterHasNone) {
  MoeConfig config = Config(0.25);
  config.router = RouterKind::kSoftmax;
  MoeFixture f(8, config, DType::kF64);
  f.layer().ForEachBuffer([](const std::string& name, Tensor&) { ADD_FAILURE() << name; });
  const Tensor x = RandomTensor({50, 8}, DType::kF64, 9), before = f.Infer(x);
  f.Step(x, x);
  f.layer().UpdateBias();
  EXPECT_TRUE(test::SameBits(f.Infer(x), before));
}

// A router that sends everything to two experts is brought back to an even load by the bias alone.
TEST(Bias, EvensOutASkewedRouter) {
  MoeFixture f(8, Config(0.02), DType::kF64);
  const Tensor x = RandomTensor({200, 8}, DType::kF64, 9),
               dy = Tensor::Zeros({200, 8}, DType::kF64);
  f.Bias().CopyFrom(Tensor::FromVector(std::vector<double>{2, 2, 0, 0, 0, 0}, {6}));
  double first = 0, last = 0;
  for (int step = 0; step < 150; ++step) {
    Metrics metrics;
    f.Step(x, dy, {.metrics = &metrics});
    last = metrics.scalars().at("layers.3.mlp.max_load").mean();
    if (step == 0) first = last;
    f.layer().UpdateBias();
    f.layer().ResetCounts();
  }
  EXPECT_EQ(first, 3);
  EXPECT_LT(last, 1.25);
}

}  // namespace
}  // namespace lacuna
