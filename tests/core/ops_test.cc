// Operators against naive double loops in every dtype: the relative rule for low precision, the f64
// tolerance for f64.
#include <gtest/gtest.h>

#include <cmath>

#include "core/dispatch.h"
#include "core/ops/adamw.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/matmul.h"
#include "core/ops/random_normal.h"
#include "core/ops/reduce.h"
#include "core/ops/rms_norm.h"
#include "core/ops/swiglu.h"
#include "core/random.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomTensor;
using Values = std::vector<double>;

class Ops : public testing::TestWithParam<DType> {
 protected:
  DType dtype() const { return GetParam(); }
  Tensor Random(Shape shape, uint64_t seed, double scale = 1) const {
    return RandomTensor(std::move(shape), dtype(), seed, scale);
  }
  // One rounding of inputs and output, sums in the accumulation type.
  testing::AssertionResult Near(const Tensor& actual, const Values& expected) const {
    return test::Close(actual, expected, test::Tolerance(actual.dtype()));
  }
};

size_t Z(int64_t i) {
  return static_cast<size_t>(i);
}

TEST_P(Ops, MatMul) {
  struct Case {
    int64_t m, n, k;
  };
  for (const Case& c : {Case{5, 7, 3}, Case{1, 1, 1}, Case{64, 33, 100}, Case{3, 4, 0},
                        Case{0, 4, 3}, Case{130, 2, 65}}) {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        const Tensor a = Random(ta ? Shape{c.k, c.m} : Shape{c.m, c.k}, 1),
                     b = Random(tb ? Shape{c.n, c.k} : Shape{c.k, c.n}, 2);
        // Into the own dtype, and accumulating into the accumulation type.
        for (const bool accumulate : {false, true}) {
          Tensor y = accumulate ? RandomTensor({c.m, c.n}, AccumulationType(dtype()), 3)
                                : Tensor::Empty({c.m, c.n}, dtype());
          Values expected = accumulate ? y.ToDoubles() : Values(Z(c.m * c.n), 0.0);
          const Values av = a.ToDoubles(), bv = b.ToDoubles();
          for (int64_t i = 0; i < c.m; ++i) {
            for (int64_t j = 0; j < c.n; ++j) {
              for (int64_t p = 0; p < c.k; ++p) {
                expected[Z(i * c.n + j)] += 0.5 * av[Z(ta ? p * c.m + i : i * c.k + p)] *
                                            bv[Z(tb ? j * c.k + p : p * c.n + j)];
              }
            }
          }
          ops::MatMul({.a = a.Ref(),
                       .b = b.Ref(),
                       .c = y.MutableRef(),
                       .transpose_a = ta,
                       .transpose_b = tb,
                       .alpha = 0.5,
                       .beta = accumulate ? 1.0 : 0.0},
                      kCpuStream);
          EXPECT_TRUE(Near(y, expected))
              << c.m << " " << c.n << " " << c.k << " " << ta << tb << accumulate;
        }
      }
    }
  }
}

TEST_P(Ops, MatMulOntoAnother) {
  const Tensor a = Random({7, 5}, 1), b = Random({5, 6}, 2), add = Random({7, 6}, 3),
               empty = Random({7, 0}, 4), none = Random({0, 6}, 5);
  Tensor y = Tensor::Empty({7, 6}, dtype()), copy = Tensor::Empty({7, 6}, dtype());
  ops::MatMul({.a = a.Ref(), .b = b.Ref(), .add = add.Ref(), .c = y.MutableRef()}, kCpuStream);
  const Values av = a.ToDoubles(), bv = b.ToDoubles();
  Values expected = add.ToDoubles();
  for (size_t i = 0; i < 7; ++i) {
    for (size_t j = 0; j < 6; ++j) {
      for (size_t p = 0; p < 5; ++p) expected[i * 6 + j] += av[i * 5 + p] * bv[p * 6 + j];
    }
  }
  EXPECT_TRUE(Near(y, expected));
  ops::MatMul({.a = empty.Ref(), .b = none.Ref(), .add = add.Ref(), .c = copy.MutableRef()},
              kCpuStream);
  EXPECT_TRUE(Near(copy, add.ToDoubles()));
}

TEST_P(Ops, RmsNormForward) {
  const Tensor x = Random({9, 37}, 1), w = Random({37}, 2);
  Tensor y = Tensor::EmptyLike(x), rstd = Tensor::Empty({9}, AccumulationType(dtype()));
  ops::RmsNormFwd(
      {.x = x.Ref(), .w = w.Ref(), .y = y.MutableRef(), .rstd = rstd.MutableRef(), .eps = 1e-3},
      kCpuStream);
  const Values xs = x.ToDoubles(), ws = w.ToDoubles();
  Values expected;
  for (size_t n = 0; n < 9; ++n) {
    double mean = 0;
    for (size_t c = 0; c < 37; ++c) mean += xs[n * 37 + c] * xs[n * 37 + c] / 37;
    for (size_t c = 0; c < 37; ++c)
      expected.push_back(xs[n * 37 + c] / std::sqrt(mean + 1e-3) * ws[c]);
  }
  EXPECT_TRUE(Near(y, expected));
}

TEST_P(Ops, SwiGluForward) {
  const Tensor x = Random({11, 26}, 1, 3);
  Tensor h = Tensor::Empty({11, 13}, dtype());
  ops::SwiGluFwd({.x = x.Ref(), .h = h.MutableRef()}, kCpuStream);
  const Values xs = x.ToDoubles();
  Values expected;
  for (size_t n = 0; n < 11; ++n) {
    for (size_t c = 0; c < 13; ++c)
      expected.push_back(xs[n * 26 + c] / (1 + std::exp(-xs[n * 26 + c])) * xs[n * 26 + 13 + c]);
  }
  EXPECT_TRUE(Near(h, expected));
}

TEST_P(Ops, CrossEntropyWithExtremeLogits) {
  Tensor logits = Random({4, 10}, 1, 20);
  const Tensor targets = Tensor::FromVector(std::vector<int32_t>{3, -1, 9, 0}, {4});
  const Values l = logits.ToDoubles();
  Tensor loss = Tensor::Empty({4}, AccumulationType(dtype()));
  ops::CrossEntropy({.logits = logits.MutableRef(),
                     .targets = targets.Ref(),
                     .loss = loss.MutableRef(),
                     .with_gradient = true,
                     .scale = 0.5},
                    kCpuStream);
  Values expected_loss(4, 0.0), expected_grad(40, 0.0);
  for (size_t n : {0u, 2u, 3u}) {
    const auto target = static_cast<size_t>(targets.data<int32_t>()[n]);
    double top = -INFINITY, sum = 0;
    for (size_t v = 0; v < 10; ++v) top = std::max(top, l[n * 10 + v]);
    for (size_t v = 0; v < 10; ++v) sum += std::exp(l[n * 10 + v] - top);
    expected_loss[n] = std::log(sum) + top - l[n * 10 + target];
    for (size_t v = 0; v < 10; ++v)
      expected_grad[n * 10 + v] = 0.5 * (std::exp(l[n * 10 + v] - top) / sum - (v == target));
  }
  EXPECT_TRUE(Near(loss, expected_loss));
  EXPECT_TRUE(Near(logits, expected_grad));
  Tensor bad = Random({1, 10}, 1);
  EXPECT_THROW(
      ops::CrossEntropy({.logits = bad.MutableRef(),
                         .targets = Tensor::FromVector(std::vector<int32_t>{10}, {1}).Ref(),
                         .loss = loss.Slice(0, 1).MutableRef()},
                        kCpuStream),
      Error);
}

TEST_P(Ops, CastAndFill) {
  const Tensor x = Random({300}, 1);
  for (const DType to : {DType::kF64, DType::kF32, DType::kBF16}) {
    Tensor y = Tensor::Empty({300}, to);
    ops::Cast({.x = x.Ref(), .y = y.MutableRef()}, kCpuStream);
    EXPECT_TRUE(test::SameBits(y, Tensor::FromDoubles(x.ToDoubles(), {300}, to)));
  }
  Tensor y = Tensor::Empty({3, 5}, dtype());
  ops::Fill({.y = y.MutableRef(), .value = 0.25}, kCpuStream);
  EXPECT_EQ(y.ToDoubles(), Values(15, 0.25));
}

TEST_P(Ops, EmbeddingGathersAndChecksIds) {
  const Tensor w = Random({6, 8}, 1);
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{5, 0, 5}, {3});
  Tensor y = Tensor::Empty({3, 8}, dtype());
  ops::EmbeddingFwd({.w = w.Ref(), .ids = ids.Ref(), .y = y.MutableRef()}, kCpuStream);
  EXPECT_TRUE(test::SameBits(y.Slice(0, 1), w.Slice(5, 6)));
  EXPECT_TRUE(test::SameBits(y.Slice(2, 3), w.Slice(5, 6)));
  const Tensor outside = Tensor::FromVector(std::vector<int32_t>{6, 0, -1}, {3});
  EXPECT_THROW(
      ops::EmbeddingFwd({.w = w.Ref(), .ids = outside.Ref(), .y = y.MutableRef()}, kCpuStream),
      Error);
}

TEST_P(Ops, AdamW) {
  const DType accumulation = AccumulationType(dtype());
  Tensor master = RandomTensor({50}, accumulation, 1), value = Tensor::Empty({50}, dtype());
  Tensor m = RandomTensor({50}, accumulation, 2, 0.1), v = RandomTensor({50}, accumulation, 3, 0.1);
  for (int i = 0; i < 50; ++i) {
    DispatchAccumulation(accumulation, [&](auto tag) {
      using T = typename decltype(tag)::type;
      v.mutable_data<T>()[i] = std::abs(v.data<T>()[i]);
    });
  }
  const Tensor grad = RandomTensor({50}, accumulation, 4);
  const Values p0 = master.ToDoubles(), m0 = m.ToDoubles(), v0 = v.ToDoubles(),
               g = grad.ToDoubles();
  const Tensor old = master;
  if (dtype() == accumulation) value = master;
  ops::AdamW({.master = master.MutableRef(),
              .value = value.MutableRef(),
              .grad = grad.Ref(),
              .m = m.MutableRef(),
              .v = v.MutableRef(),
              .gradient_scale = Tensor::FromVector(std::vector<double>{0.5}, {1}).Ref(),
              .learning_rate = 0.01,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .weight_decay = 0.1,
              .step = 3},
             kCpuStream);
  Values expected;
  for (size_t i = 0; i < 50; ++i) {
    const double gi = 0.5 * g[i], mi = 0.9 * m0[i] + 0.1 * gi, vi = 0.95 * v0[i] + 0.05 * gi * gi;
    expected.push_back(p0[i] - 0.01 * (mi / (1 - std::pow(0.9, 3)) /
                                           (std::sqrt(vi / (1 - std::pow(0.95, 3))) + 1e-8) +
                                       0.1 * p0[i]));
  }
  EXPECT_TRUE(test::Close(master, expected, test::Tolerance(accumulation)));
  EXPECT_TRUE(test::Close(value, expected, test::Tolerance(dtype())));
}

TEST_P(Ops, SumOfSquaresIsNotFiniteWhereAnElementIsNot) {
  Tensor x = Random({1000}, 1);
  double expected = 0;
  Tensor result = Tensor::Empty({1}, DType::kF64);
  for (const double value : x.ToDoubles()) expected += value * value;
  ops::SumOfSquares({.x = x.Ref(), .result = result.MutableRef()}, kCpuStream);
  EXPECT_NEAR(result.ToDoubles()[0], expected, 1e-12 * expected);
  Values poisoned = x.ToDoubles();
  poisoned[777] = NAN;
  const Tensor bad = Tensor::FromDoubles(poisoned, {1000}, dtype());
  ops::SumOfSquares({.x = bad.Ref(), .result = result.MutableRef()}, kCpuStream);
  EXPECT_FALSE(std::isfinite(result.ToDoubles()[0]));
}

TEST_P(Ops, SumIsScaled) {
  const Tensor x = Random({1003}, 1);
  Tensor result = Tensor::Empty({1}, AccumulationType(dtype()));
  double expected = 0;
  for (const double value : x.ToDoubles()) expected += value;
  ops::Sum({.x = x.Ref(), .result = result.MutableRef(), .scale = 0.25}, kCpuStream);
  EXPECT_TRUE(test::Close(result, {0.25 * expected}, test::Tolerance(result.dtype())));
}

TEST_P(Ops, PartsAreSummedInOrder) {
  constexpr int64_t kParts = 5, kCount = 70;
  const Tensor x = Random({kParts, kCount}, 1);
  Tensor y = Tensor::Empty({kCount}, dtype());
  const Values values = x.ToDoubles();
  Values expected(kCount, 0.0);
  for (size_t i = 0; i < values.size(); ++i) expected[i % kCount] += values[i];
  ops::SumParts({.x = x.Ref(), .y = y.MutableRef()}, kCpuStream);
  EXPECT_TRUE(test::Close(y, expected, test::Tolerance(dtype())));
  ops::SumParts({.x = x.Slice(2, 3).Ref(), .y = y.MutableRef()}, kCpuStream);
  EXPECT_TRUE(test::SameBits(y, x.Slice(2, 3).Reshape({kCount})));
  EXPECT_THROW(ops::SumParts({.x = y.Ref(), .y = y.MutableRef()}, kCpuStream), Error);
}

TEST(ClipFactor, ClipsKeepsOrStops) {
  const auto factor = [](std::vector<double> squares, double loss, double clip) {
    Tensor result = Tensor::Empty({1}, DType::kF64);
    const auto n = static_cast<int64_t>(squares.size());
    ops::ClipFactor({.squares = Tensor::FromVector(squares, {n}).Ref(),
                     .loss = Tensor::FromVector(std::vector<double>{loss}, {1}).Ref(),
                     .factor = result.MutableRef(),
                     .clip_norm = clip},
                    kCpuStream);
    return result.ToDoubles()[0];
  };
  EXPECT_DOUBLE_EQ(factor({9, 16}, 1, 2), 0.4);
  EXPECT_EQ(factor({9, 16}, 1, 6), 1);
  EXPECT_EQ(factor({9, 16}, 1, 0), 1);
  EXPECT_EQ(factor({0, 0}, 1, 1), 1);
  EXPECT_TRUE(std::isnan(factor({9, NAN}, 1, 2)));
  EXPECT_TRUE(std::isnan(factor({9, INFINITY}, 1, 0)));
  EXPECT_TRUE(std::isnan(factor({9, 16}, NAN, 2)));
}

TEST(AdamW, ChangesNothingWhereTheFactorIsNan) {
  Tensor master = RandomTensor({40}, DType::kF32, 1), m = RandomTensor({40}, DType::kF32, 2),
         v = RandomTensor({40}, DType::kF32, 3);
  const Tensor before[] = {master.Clone(), m.Clone(), v.Clone()};
  const Tensor grad = RandomTensor({40}, DType::kF32, 4);
  ops::AdamW({.master = master.MutableRef(),
              .value = master.MutableRef(),
              .grad = grad.Ref(),
              .m = m.MutableRef(),
              .v = v.MutableRef(),
              .gradient_scale = Tensor::FromVector(std::vector<double>{NAN}, {1}).Ref(),
              .learning_rate = 0.01,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .eps = 1e-8,
              .weight_decay = 0.1,
              .step = 3},
             kCpuStream);
  EXPECT_TRUE(test::SameBits(master, before[0]));
  EXPECT_TRUE(test::SameBits(m, before[1]));
  EXPECT_TRUE(test::SameBits(v, before[2]));
}

TEST(RandomNormal, IsPhiloxWhateverTheNumberOfElements) {
  Tensor few = Tensor::Empty({7}, DType::kF64), many = Tensor::Empty({5000}, DType::kF64);
  ops::RandomNormal({.y = few.MutableRef(), .key = 3, .stream = 9, .std = 0.5}, kCpuStream);
  ops::RandomNormal({.y = many.MutableRef(), .key = 3, .stream = 9, .std = 0.5}, kCpuStream);
  EXPECT_TRUE(test::SameBits(few, many.Slice(0, 7)));
  EXPECT_EQ(few.ToDoubles()[6], 0.5 * PhiloxNormal(3, 9, 6));
  ops::RandomNormal({.y = few.MutableRef(), .key = 3, .stream = 9, .std = 0.5, .first = 4321},
                    kCpuStream);
  EXPECT_TRUE(test::SameBits(few, many.Slice(4321, 4328)));
}

INSTANTIATE_TEST_SUITE_P(All, Ops, testing::Values(DType::kF64, DType::kF32, DType::kBF16),
                         [](const auto& info) { return NameOf(info.param); });

TEST(OpChecks, NameTheOperatorAndTheShapes) {
  Tensor a = Tensor::Zeros({2, 3}, DType::kF32), b = Tensor::Zeros({4, 5}, DType::kF32),
         c = Tensor::Zeros({2, 5}, DType::kF32);
  try {
    ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef()}, kCpuStream);
    FAIL() << "a product of [2, 3] and [4, 5] was accepted";
  } catch (const Error& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("matmul"), std::string::npos) << what;
    EXPECT_NE(what.find("[2, 3]"), std::string::npos) << what;
  }
}

}  // namespace
}  // namespace lacuna
