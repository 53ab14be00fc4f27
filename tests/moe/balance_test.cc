// What keeps experts evenly used: balance loss, z-loss, correction bias. That their gradients
// arrive, once, and that neither recompute nor the cut into micro-batches and ranks changes what
// they should not.
#include <gtest/gtest.h>

#include <numeric>

#include "moe/expert_load.h"
#include "tests/moe/moe_fixture.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using test::Close;
using test::MoeFixture;
using test::RandomTensor;

constexpr int64_t kWidth = 6, kRows = 24, kSamples = 4, kExperts = 5, kChosen = 2;
const char* const kName = "layers.3.mlp";

MoeConfig Config(AuxLossScope scope, RouterKind kind = RouterKind::kSoftmax) {
  return {.num_experts = kExperts,
          .experts_per_token = kChosen,
          .expert_width = 4,
          .num_shared = 1,
          .router = kind,
          .aux_loss = scope,
          .aux_loss_coef = scope == AuxLossScope::kNone ? 0.0 : 0.3,
          .z_loss_coef = 0.2};
}

Tensor Input(uint64_t seed = 5) {
  return RandomTensor({kRows, kWidth}, DType::kF64, seed);
}
Tensor OutputGradient(uint64_t seed = 6) {
  return RandomTensor({kRows, kWidth}, DType::kF64, seed);
}

std::vector<double> Difference(std::vector<double> a, const std::vector<double>& b) {
  for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

double Mean(const Metrics& metrics, const std::string& what) {
  return metrics.scalars().at(kName + ("." + what)).mean();
}

// Shares [S, E] of the choices in each sample.
std::vector<double> Shares(const std::vector<int>& ids, int64_t samples) {
  std::vector<double> shares(static_cast<size_t>(samples * kExperts));
  const size_t each = ids.size() / static_cast<size_t>(samples);
  for (size_t i = 0; i < ids.size(); ++i)
    shares[i / each * kExperts + static_cast<size_t>(ids[i])] += 1.0 / static_cast<double>(each);
  return shares;
}

struct LossCase {
  AuxLossScope scope;
  RouterKind kind;
};
class BalanceTest : public testing::TestWithParam<LossCase> {};
INSTANTIATE_TEST_SUITE_P(Scopes, BalanceTest,
                         testing::Values(LossCase{AuxLossScope::kMicroBatch, RouterKind::kSoftmax},
                                         LossCase{AuxLossScope::kMicroBatch, RouterKind::kSigmoid},
                                         LossCase{AuxLossScope::kSequence, RouterKind::kSoftmax},
                                         LossCase{AuxLossScope::kSequence, RouterKind::kSigmoid},
                                         LossCase{AuxLossScope::kGlobalBatch,
                                                  RouterKind::kSoftmax}));

// With the losses, the gradient of the gate and of x is that without them plus differences of the
// losses written out.
TEST_P(BalanceTest, GradientReachesRouterAndInput) {
  const auto [scope, kind] = GetParam();
  MoeConfig plain = Config(AuxLossScope::kNone, kind);
  plain.z_loss_coef = 0;
  MoeFixture with(kWidth, Config(scope, kind), DType::kF64), without(kWidth, plain, DType::kF64);
  const Tensor x = Input(), dy = OutputGradient();
  const double share = 0.25;
  Metrics metrics;
  const Tensor dx = with.Step(
      x, dy, {.metrics = &metrics, .rows_per_sample = kRows / kSamples, .share = share})[1];
  const Tensor dx_plain = without.Step(x, dy)[1];

  test::NaiveMoe m = with.Naive(x);
  const auto routed = test::RunNaive<double>(m, dy.ToDoubles(), [](double v) { return v; });
  const std::vector<double> shares =
      Shares(routed.ids, scope == AuxLossScope::kSequence ? kSamples : 1);
  const auto differences = [&](std::vector<double>& at) {
    std::vector<double> gradient;
    for (double& value : at) {
      const double original = value, step = 1e-5;
      value = original + step;
      const double above = test::NaiveAuxiliaryLoss(m, shares, 0.3, 0.2);
      value = original - step;
      gradient.push_back(share * (above - test::NaiveAuxiliaryLoss(m, shares, 0.3, 0.2)) /
                         (2 * step));
      value = original;
    }
    return gradient;
  };
  const std::vector<double> d_gate = Difference(with.Get("gate.weight").grad.ToDoubles(),
                                                without.Get("gate.weight").grad.ToDoubles());
  EXPECT_TRUE(Close(d_gate, differences(m.gate), 1e-9));
  EXPECT_TRUE(Close(Difference(dx.ToDoubles(), dx_plain.ToDoubles()), differences(m.x), 1e-9));
  EXPECT_GT(std::accumulate(d_gate.begin(), d_gate.end(), 0.0,
                            [](double a, double b) { return std::max(a, std::abs(b)); }),
            1e-3);

  EXPECT_NEAR(Mean(metrics, "aux_loss"), test::NaiveAuxiliaryLoss(m, shares, 0.3, 0.0), 1e-12);
  EXPECT_NEAR(Mean(metrics, "router_z"), test::NaiveAuxiliaryLoss(m, shares, 0.0, 1.0), 1e-12);
}

// Recompute runs the forward twice and changes nothing: gradients, metrics, counts, and one
// reduction of counts.
TEST_P(BalanceTest, RecomputeCountsNothingTwice) {
  const auto [scope, kind] = GetParam();
  MoeFixture once(kWidth, Config(scope, kind), DType::kF64),
      twice(kWidth, Config(scope, kind), DType::kF64);
  int reductions[2] = {0, 0};
  once.layer().set_count_reducer([&](Tensor&) { ++reductions[0]; });
  twice.layer().set_count_reducer([&](Tensor&) { ++reductions[1]; });
  Metrics a, b;
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    const test::StepOptions options{
        .metrics = &a, .rows_per_sample = kRows / kSamples, .share = 0.5};
    test::StepOptions recompute = options;
    recompute.metrics = &b;
    recompute.recompute = true;
    once.Step(Input(micro_batch), OutputGradient(micro_batch), options);
    twice.Step(Input(micro_batch), OutputGradient(micro_batch), recompute);
  }
  EXPECT_TRUE(test::SameBits(once.flat().grad(), twice.flat().grad()));
  EXPECT_TRUE(test::SameBits(once.layer().step_counts(), twice.layer().step_counts()));
  EXPECT_EQ(a.Flatten(), b.Flatten());
  EXPECT_EQ(reductions[0], scope == AuxLossScope::kGlobalBatch ? 2 : 0);
  EXPECT_EQ(reductions[1], reductions[0]);
  const std::vector<double> counts = twice.layer().step_counts().ToDoubles();
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0.0), 2 * kRows * kChosen);
  EXPECT_EQ(b.vectors().at(std::string(kName) + ".tokens_per_expert"), counts);
}

// A bias that changes between the two forwards (as the trainer's update would) does not change the
// recomputed choice.
TEST(Recompute, ReplaysTheChoice) {
  const MoeConfig config = Config(AuxLossScope::kNone, RouterKind::kSigmoid);
  MoeFixture plain(kWidth, config, DType::kF64), replayed(kWidth, config, DType::kF64);
  const std::vector<Tensor> expected = plain.Step(Input(), OutputGradient());
  replayed.between = [&] {
    replayed.Bias().CopyFrom(Tensor::FromVector(std::vector<double>{9, -9, 9, -9, 9}, {kExperts}));
  };
  const std::vector<Tensor> actual = replayed.Step(Input(), OutputGradient(), {.recompute = true});
  EXPECT_TRUE(test::SameBits(actual[1], expected[1]));
  EXPECT_TRUE(test::SameBits(replayed.flat().grad(), plain.flat().grad()));
}

TEST(Evaluation, ReportsTheLoadAndCountsNothing) {
  MoeFixture f(kWidth, Config(AuxLossScope::kGlobalBatch), DType::kF64);
  int reductions = 0;
  f.layer().set_count_reducer([&](Tensor&) { ++reductions; });
  Metrics metrics;
  f.Infer(Input(), &metrics);
  EXPECT_EQ(reductions, 0);
  EXPECT_EQ(f.layer().step_counts().ToDoubles(), std::vector<double>(kExperts, 0.0));
  EXPECT_EQ(metrics.scalars().count(std::string(kName) + ".aux_loss"), 0u);
  EXPECT_GE(Mean(metrics, "max_load"), 1);
}

// Per-sample balance and z-loss are means over samples: any cut of the batch gives the same
// gradient.
TEST(Scaling, SequenceAndZLossDoNotDependOnTheNumberOfMicroBatches) {
  const Tensor x = Input(), dy = OutputGradient();
  for (const RouterKind kind : {RouterKind::kSoftmax, RouterKind::kSigmoid}) {
    MoeFixture whole(kWidth, Config(AuxLossScope::kSequence, kind), DType::kF64);
    Metrics expected;
    whole.Step(x, dy, {.metrics = &expected, .rows_per_sample = kRows / kSamples});
    for (const int64_t parts : {2, 4}) {
      MoeFixture cut(kWidth, Config(AuxLossScope::kSequence, kind), DType::kF64);
      Metrics metrics;
      for (int64_t i = 0; i < parts; ++i) {
        const int64_t begin = i * kRows / parts, end = (i + 1) * kRows / parts;
        cut.Step(x.Slice(begin, end), dy.Slice(begin, end),
                 {.metrics = &metrics,
                  .rows_per_sample = kRows / kSamples,
                  .share = 1.0 / static_cast<double>(parts)});
      }
      EXPECT_TRUE(Close(cut.flat().grad(), whole.flat().grad(), 1e-12));
      EXPECT_NEAR(Mean(metrics, "aux_loss"), Mean(expected, "aux_loss"), 1e-12);
      EXPECT_NEAR(Mean(metrics, "router_z"), Mean(expected, "router_z"), 1e-12);
    }
  }
}

// Ranks that see each other's counts: the sum of their gradients is that of one rank with the whole
// batch.
TEST(Scaling, GlobalBatchLossDoesNotDependOnTheNumberOfRanks) {
  const Tensor x = Input(), dy = OutputGradient();
  MoeFixture whole(kWidth, Config(AuxLossScope::kGlobalBatch), DType::kF64);
  Metrics expected;
  whole.Step(x, dy, {.metrics = &expected});
  for (const int64_t ranks : {2, 3}) {
    std::vector<double> sum(static_cast<size_t>(whole.flat().size()), 0.0);
    double loss = 0;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      MoeFixture f(kWidth, Config(AuxLossScope::kGlobalBatch), DType::kF64);
      f.layer().set_count_reducer(
          [&](Tensor& counts) { counts.CopyFrom(whole.layer().step_counts()); });
      Metrics metrics;
      const int64_t begin = rank * kRows / ranks, end = (rank + 1) * kRows / ranks;
      f.Step(x.Slice(begin, end), dy.Slice(begin, end),
             {.metrics = &metrics, .share = 1.0 / static_cast<double>(ranks)});
      const std::vector<double> gradient = f.flat().grad().ToDoubles();
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += gradient[i];
      loss += Mean(metrics, "aux_loss") / static_cast<double>(ranks);
    }
    EXPECT_TRUE(Close(sum, whole.flat().grad().ToDoubles(), 1e-12));
    EXPECT_NEAR(loss, Mean(expected, "aux_loss"), 1e-12);
  }
}

// The last micro-batch of a step sees the counts of the whole step, and a new step starts from
// nothing.
TEST(Scaling, GlobalBatchCountsGrowOverTheStep) {
  MoeFixture f(kWidth, Config(AuxLossScope::kGlobalBatch), DType::kF64);
  std::vector<std::vector<double>> seen;
  f.layer().set_count_reducer([&](Tensor& counts) { seen.push_back(counts.ToDoubles()); });
  const auto total = [&](size_t i) { return std::accumulate(seen[i].begin(), seen[i].end(), 0.0); };
  f.Step(Input(1), OutputGradient(1));
  f.Step(Input(2), OutputGradient(2));
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(total(0), kRows * kChosen);
  EXPECT_EQ(total(1), 2 * kRows * kChosen);
  EXPECT_EQ(seen[1], f.layer().step_counts().ToDoubles());
  f.layer().ResetCounts();
  f.Step(Input(1), OutputGradient(1));
  ASSERT_EQ(seen.size(), 3u);
  EXPECT_EQ(seen[2], seen[0]);
}

TEST(NormalizeLoad, SharesOfEachSampleAndNothingOfNothing) {
  Tensor counts = Tensor::FromVector(std::vector<double>{1, 3, 0, 0, 5, 5, 0, 0}, {4, 2});
  ops::NormalizeLoad({.counts = counts.MutableRef()}, kCpuStream);
  EXPECT_EQ(counts.ToDoubles(), (std::vector<double>{.25, .75, 0, 0, .5, .5, 0, 0}));
  Tensor wrong = Tensor::Zeros({4, 2}, DType::kF32);
  EXPECT_THROW(ops::NormalizeLoad({.counts = wrong.MutableRef()}, kCpuStream), Error);
}

TEST(Scaling, RowsThatAreNoWholeSamplesAreAnError) {
  MoeFixture f(kWidth, Config(AuxLossScope::kSequence), DType::kF64);
  EXPECT_THROW(f.Step(Input(), OutputGradient(), {.rows_per_sample = 7}), Error);
  EXPECT_THROW(f.Step(Input(), OutputGradient()), Error);
}

}  // namespace
}  // namespace lacuna
