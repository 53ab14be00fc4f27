// Scores, choice and weights against Glm4Moe's semantics, and the gradient of the weights with the
// choice frozen.
#include "moe/route.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::Close;
using test::RandomTensor;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Scored {
  Tensor scores, lse;
};
Scored Score(const Tensor& logits, RouterKind kind) {
  Scored s{Tensor::EmptyLike(logits), Tensor::Empty({logits.dim(0)}, logits.dtype())};
  ops::RouteScores({.logits = logits.Ref(),
                    .scores = s.scores.MutableRef(),
                    .lse = s.lse.MutableRef(),
                    .kind = kind},
                   kCpuStream);
  return s;
}

std::vector<int32_t> Choose(const Tensor& scores, const Tensor& bias, int64_t chosen) {
  Tensor ids = Tensor::Empty({scores.dim(0), chosen}, DType::kI32);
  ops::ChooseExperts({.scores = scores.Ref(), .bias = bias.Ref(), .ids = ids.MutableRef()},
                     kCpuStream);
  return {ids.data<int32_t>(), ids.data<int32_t>() + ids.numel()};
}

Tensor Weigh(const Tensor& scores, const Tensor& ids, bool normalize, double scale) {
  Tensor weights = Tensor::Empty(ids.shape(), scores.dtype());
  ops::RouteWeights({.scores = scores.Ref(),
                     .ids = ids.Ref(),
                     .weights = weights.MutableRef(),
                     .normalize = normalize,
                     .scale = scale},
                    kCpuStream);
  return weights;
}

TEST(RouteScores, ExtremeLogitsStayFinite) {
  const Tensor logits =
      Tensor::FromDoubles({-500, 0, 500, 499, 499, 499, -1e4, -1e4, -1e4}, {3, 3}, DType::kF32);
  const Scored sigmoid = Score(logits, RouterKind::kSigmoid),
               softmax = Score(logits, RouterKind::kSoftmax);
  EXPECT_TRUE(Close(sigmoid.scores, {0, 0.5, 1, 1, 1, 1, 0, 0, 0}, 1e-6));
  EXPECT_TRUE(
      Close(softmax.scores, {0, 0, 1, 1. / 3, 1. / 3, 1. / 3, 1. / 3, 1. / 3, 1. / 3}, 1e-5));
  EXPECT_TRUE(Close(softmax.lse, {500, 499 + std::log(3), -1e4 + std::log(3)}, 1e-6));
  // Scores that all vanish: weights 0, not NaN.
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{0, 1, 0, 1, 0, 1}, {3, 2});
  EXPECT_TRUE(Close(Weigh(sigmoid.scores, ids, true, 1.0), {0, 1, 0.5, 0.5, 0, 0}, 1e-6));
}

TEST(ChooseExperts, LargestFirstAndTiesToTheLowestIndex) {
  const Tensor scores = Tensor::FromVector(
      std::vector<float>{.1f, .4f, .4f, .2f, .4f, .3f, .3f, .3f, .3f, .3f}, {2, 5});
  EXPECT_EQ(Choose(scores, {}, 3), (std::vector<int32_t>{1, 2, 4, 0, 1, 2}));
  EXPECT_EQ(Choose(scores, {}, 4), (std::vector<int32_t>{1, 2, 4, 3, 0, 1, 2, 3}));
}

TEST(ChooseExperts, BiasMovesTheChoiceAndNeverTheWeight) {
  const Tensor scores = Tensor::FromVector(std::vector<double>{.9, .5, .4, .3}, {1, 4});
  const Tensor bias = Tensor::FromVector(std::vector<double>{-1, 0, 0, .15}, {4});
  const std::vector<int32_t> ids = Choose(scores, bias, 2);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 3}));
  const Tensor chosen = Tensor::FromVector(ids, {1, 2});
  EXPECT_TRUE(Close(Weigh(scores, chosen, true, 1.0), {.5 / .8, .3 / .8}, 1e-15));
  EXPECT_TRUE(Close(Weigh(scores, chosen, true, 2.5), {2.5 * .5 / .8, 2.5 * .3 / .8}, 1e-15));
  EXPECT_TRUE(Close(Weigh(scores, chosen, false, 2.5), {2.5 * .5, 2.5 * .3}, 1e-15));
}

TEST(ChooseExperts, NanScoresStillGiveDifferentExperts) {
  const Tensor scores =
      Tensor::FromVector(std::vector<double>{kNan, .1, kNan, .2, kNan, kNan, kNan, kNan}, {2, 4});
  const std::vector<int32_t> ids = Choose(scores, {}, 3);
  for (int row = 0; row < 2; ++row) {
    const std::set<int32_t> different(ids.begin() + 3 * row, ids.begin() + 3 * row + 3);
    EXPECT_EQ(different.size(), 3u);
    EXPECT_GE(*different.begin(), 0);
    EXPECT_LT(*different.rbegin(), 4);
  }
}

// The weights as a function of the logits with the choice frozen, and of both auxiliary losses.
TEST(RouteBwd, EqualsDifferencesOfWeightsAndLosses) {
  const int64_t rows = 12, experts = 5, samples = 3;
  const std::vector<int32_t> pairs = {0, 3, 1, 4, 2, 0, 4, 3, 1, 2, 3, 0,
                                      0, 3, 1, 4, 2, 0, 4, 3, 1, 2, 3, 0};
  const Tensor ids = Tensor::FromVector(pairs, {rows, 2});
  Tensor load = RandomTensor({samples, experts}, DType::kF64, 3);
  const double aux = 0.37, z = 0.11;
  for (const RouterKind kind : {RouterKind::kSigmoid, RouterKind::kSoftmax}) {
    for (const bool normalize : {true, false}) {
      const auto forward = [&](Tape& tape, const std::vector<Variable>& in) {
        const Scored s = Score(in[0].value(), kind);
        const Tensor weights = Weigh(s.scores, ids, normalize, 1.7);
        // A second output carries the losses that RouteBwd injects, so that differences see them,
        // too.
        double loss = 0;
        const std::vector<double> p = s.scores.ToDoubles(), lse = s.lse.ToDoubles(),
                                  f = load.ToDoubles();
        for (int64_t n = 0; n < rows; ++n) {
          double sum = 0;
          for (int64_t e = 0; e < experts; ++e) sum += p[n * experts + e];
          for (int64_t e = 0; e < experts; ++e)
            loss += aux * f[n / (rows / samples) * experts + e] * p[n * experts + e] / sum;
          loss += z * lse[n] * lse[n];
        }
        return tape.RecordMany("route", {in[0]}, {},
                               {weights, Tensor::FromDoubles({loss}, {1}, DType::kF64)},
                               [&, s, logits = in[0].value()](GradContext& g) {
                                 const double seed = g.dy(1).ToDoubles()[0];
                                 Tensor dlogits = Tensor::EmptyLike(logits);
                                 ops::RouteBwd({.logits = logits.Ref(),
                                                .scores = s.scores.Ref(),
                                                .lse = s.lse.Ref(),
                                                .ids = ids.Ref(),
                                                .dweights = g.dy(0).Ref(),
                                                .load = load.Ref(),
                                                .dlogits = dlogits.MutableRef(),
                                                .kind = kind,
                                                .normalize = normalize,
                                                .scale = 1.7,
                                                .aux_scale = aux * seed,
                                                .z_scale = z * seed},
                                               kCpuStream);
                                 g.Set(0, dlogits);
                               });
      };
      EXPECT_TRUE(test::GradCheck(forward, {RandomTensor({rows, experts}, DType::kF64, 2)}))
          << normalize;
    }
  }
}

TEST(RouteBwd, WithoutLossesOnlyTheChosenOfASigmoidRouterGetGradient) {
  const Tensor logits = RandomTensor({1, 4}, DType::kF64, 2),
               dweights = RandomTensor({1, 2}, DType::kF64, 3);
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{2, 0}, {1, 2});
  const Scored s = Score(logits, RouterKind::kSigmoid);
  Tensor d = Tensor::EmptyLike(logits);
  ops::RouteBwd({.logits = logits.Ref(),
                 .scores = s.scores.Ref(),
                 .lse = s.lse.Ref(),
                 .ids = ids.Ref(),
                 .dweights = dweights.Ref(),
                 .load = {},
                 .dlogits = d.MutableRef(),
                 .kind = RouterKind::kSigmoid,
                 .normalize = true,
                 .scale = 1},
                kCpuStream);
  EXPECT_EQ(d.data<double>()[1], 0);
  EXPECT_EQ(d.data<double>()[3], 0);
  EXPECT_NE(d.data<double>()[0], 0);
}

TEST(Route, MisuseIsNamed) {
  const Tensor scores = RandomTensor({2, 3}, DType::kF32, 1);
  Tensor four = Tensor::Empty({2, 4}, DType::kI32);
  EXPECT_THROW(ops::ChooseExperts({.scores = scores.Ref(), .bias = {}, .ids = four.MutableRef()},
                                  kCpuStream),
               Error);
  const Tensor bias = RandomTensor({3}, DType::kF64, 1);
  Tensor two = Tensor::Empty({2, 2}, DType::kI32);
  EXPECT_THROW(
      ops::ChooseExperts({.scores = scores.Ref(), .bias = bias.Ref(), .ids = two.MutableRef()},
                         kCpuStream),
      Error);
}

}  // namespace
}  // namespace lacuna
