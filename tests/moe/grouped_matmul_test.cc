// Matrix products by expert against loops, with experts of every size.
#include "moe/grouped_matmul.h"

#include <gtest/gtest.h>

#include "moe/functions.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomTensor;
using test::WithinNaiveError;

struct Shapes {
  int64_t in, out;
  std::vector<int64_t> offsets;
};

// Small experts, one longer than a piece of work, none, all rows in one, no row at all.
const std::vector<Shapes> kShapes = {
    {5, 7, {0, 3, 3, 4, 10}},    {33, 300, {0, 600, 600, 601}},
    {300, 33, {0, 0, 520, 520}}, {4, 4, {0, 0, 0, 9}},
    {4, 4, {0, 0, 0}},
};

template <class T>
std::vector<double> Naive(const Shapes& s, const std::vector<double>& x,
                          const std::vector<double>& w, bool transpose, double (*round)(double)) {
  const int64_t rows = s.offsets.back(), in = transpose ? s.in : s.out,
                out = transpose ? s.out : s.in;
  std::vector<double> y(rows * out);
  for (size_t e = 0; e + 1 < s.offsets.size(); ++e) {
    for (int64_t r = s.offsets[e]; r < s.offsets[e + 1]; ++r) {
      for (int64_t o = 0; o < out; ++o) {
        T sum = 0;
        for (int64_t i = 0; i < in; ++i) {
          sum += T(x[r * in + i]) *
                 T(transpose ? w[(e * s.out + o) * s.in + i] : w[(e * s.out + i) * s.in + o]);
        }
        y[r * out + o] = round(sum);
      }
    }
  }
  return y;
}

template <class T>
std::vector<double> NaiveDw(const Shapes& s, const std::vector<double>& dy,
                            const std::vector<double>& x, const std::vector<double>& before) {
  std::vector<double> dw = before;
  for (size_t e = 0; e + 1 < s.offsets.size(); ++e) {
    for (int64_t o = 0; o < s.out; ++o) {
      for (int64_t i = 0; i < s.in; ++i) {
        T sum = 0;
        for (int64_t r = s.offsets[e]; r < s.offsets[e + 1]; ++r)
          sum += T(dy[r * s.out + o]) * T(x[r * s.in + i]);
        dw[(e * s.out + o) * s.in + i] = double(T(dw[(e * s.out + o) * s.in + i]) + sum);
      }
    }
  }
  return dw;
}

double Keep(double v) {
  return v;
}
double ToBFloat16(double v) {
  return static_cast<double>(static_cast<float>(BFloat16(static_cast<float>(v))));
}

TEST(GroupedMatMul, EqualsLoopsInEveryTypeAndShape) {
  for (const Shapes& s : kShapes) {
    const int64_t experts = static_cast<int64_t>(s.offsets.size()) - 1, rows = s.offsets.back();
    const Tensor offsets = Tensor::FromVector(s.offsets, {experts + 1});
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message() << rows << " rows " << NameOf(dtype));
      const Tensor x = RandomTensor({rows, s.in}, dtype, 1),
                   dy = RandomTensor({rows, s.out}, dtype, 2);
      const Tensor w = RandomTensor({experts, s.out, s.in}, dtype, 3);
      for (const bool transpose : {true, false}) {
        const Tensor& from = transpose ? x : dy;
        Tensor y = Tensor::Empty({rows, transpose ? s.out : s.in}, dtype);
        ops::GroupedMatMul({.x = from.Ref(),
                            .w = w.Ref(),
                            .offsets = offsets.Ref(),
                            .y = y.MutableRef(),
                            .transpose_w = transpose},
                           kCpuStream);
        const auto round = dtype == DType::kBF16 ? ToBFloat16 : Keep;
        const auto exact = Naive<double>(s, from.ToDoubles(), w.ToDoubles(), transpose, Keep);
        const auto naive = dtype == DType::kF64
                               ? exact
                               : Naive<float>(s, from.ToDoubles(), w.ToDoubles(), transpose, round);
        EXPECT_TRUE(WithinNaiveError(y, naive, exact, 2));
      }
      Tensor dw = RandomTensor({experts, s.out, s.in}, AccumulationType(dtype), 4);
      const std::vector<double> before = dw.ToDoubles();
      ops::GroupedMatMulDw(
          {.dy = dy.Ref(), .x = x.Ref(), .offsets = offsets.Ref(), .dw = dw.MutableRef()},
          kCpuStream);
      const auto exact = NaiveDw<double>(s, dy.ToDoubles(), x.ToDoubles(), before);
      const auto naive =
          dtype == DType::kF64 ? exact : NaiveDw<float>(s, dy.ToDoubles(), x.ToDoubles(), before);
      EXPECT_TRUE(WithinNaiveError(dw, naive, exact, 3));
      const std::vector<double> after = dw.ToDoubles();
      for (int64_t i = 0; i < dw.numel(); ++i) {
        const int64_t e = i / (s.out * s.in);
        const bool unused = s.offsets[e] == s.offsets[e + 1];
        ASSERT_TRUE(!unused || after[i] == before[i])
            << "expert " << e << " has no rows, element " << i << " changed";
      }
    }
  }
}

// What an expert without rows holds is never read: a NaN there stays there.
TEST(GroupedMatMul, ExpertsWithoutRowsAreNotRead) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Tensor w = RandomTensor({3, 4, 5}, dtype, 3);
    w.Slice(1, 2).CopyFrom(Tensor::FromDoubles(
        std::vector<double>(20, std::numeric_limits<double>::quiet_NaN()), {1, 4, 5}, dtype));
    const Tensor offsets = Tensor::FromVector(std::vector<int64_t>{0, 2, 2, 4}, {4}),
                 x = RandomTensor({4, 5}, dtype, 1);
    Tensor y = Tensor::Empty({4, 4}, dtype);
    ops::GroupedMatMul({.x = x.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
                       kCpuStream);
    for (const double v : y.ToDoubles()) ASSERT_TRUE(std::isfinite(v));
  }
}

// A chunk's rows of every expert are set, others are neither read nor written.
TEST(GroupedMatMul, OfOneChunk) {
  // 3 experts of 2 chunks: without rows, with one chunk alone, more than a piece of work.
  const std::vector<int64_t> cuts = {0, 0, 0, 5, 5, 305, 700};
  const Tensor offsets = Tensor::FromVector(cuts, {7});
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const Tensor whole_x = test::RandomIds({700, 4}, 5, 1).To(dtype),
                 w = test::RandomIds({3, 3, 4}, 5, 2).To(dtype);
    Tensor whole = Tensor::Empty({700, 3}, dtype);
    ops::GroupedMatMul({.x = whole_x.Ref(),
                        .w = w.Ref(),
                        .offsets = offsets.Ref(),
                        .y = whole.MutableRef(),
                        .chunks = 2},
                       kCpuStream);
    for (const size_t chunk : {0, 1}) {
      std::vector<double> x(700 * 4, nan), expected(700 * 3, -7);
      for (size_t e = 0; e < 3; ++e) {
        const int64_t begin = cuts[2 * e + chunk], end = cuts[2 * e + chunk + 1];
        const std::vector<double> in = whole_x.ToDoubles(), out = whole.ToDoubles();
        std::copy(in.begin() + begin * 4, in.begin() + end * 4, x.begin() + begin * 4);
        std::copy(out.begin() + begin * 3, out.begin() + end * 3, expected.begin() + begin * 3);
      }
      Tensor y = Tensor::FromDoubles(std::vector<double>(700 * 3, -7), {700, 3}, dtype);
      ops::GroupedMatMul({.x = Tensor::FromDoubles(x, {700, 4}, dtype).Ref(),
                          .w = w.Ref(),
                          .offsets = offsets.Ref(),
                          .y = y.MutableRef(),
                          .chunks = 2,
                          .chunk = static_cast<int64_t>(chunk)},
                         kCpuStream);
      EXPECT_EQ(y.ToDoubles(), expected);  // whole numbers, so that sums are exact
    }
  }
  const Tensor x = RandomTensor({4, 5}, DType::kF32, 1),
               w = RandomTensor({1, 3, 5}, DType::kF32, 2),
               two = Tensor::FromVector(std::vector<int64_t>{0, 2, 4}, {3});
  Tensor y = Tensor::Empty({4, 3}, DType::kF32);
  for (const auto& [chunks, chunk] : {std::pair<int64_t, int64_t>{2, 2}, {1, 0}, {2, -2}}) {
    EXPECT_THROW(ops::GroupedMatMul({.x = x.Ref(),
                                     .w = w.Ref(),
                                     .offsets = two.Ref(),
                                     .y = y.MutableRef(),
                                     .chunks = chunks,
                                     .chunk = chunk},
                                    kCpuStream),
                 Error);
  }
}

TEST(GroupedMatMulDw, AddsOrSets) {
  const Tensor offsets = Tensor::FromVector(std::vector<int64_t>{0, 2, 2, 5}, {4}),
               x = RandomTensor({5, 4}, DType::kF32, 1), dy = RandomTensor({5, 3}, DType::kF32, 2);
  const auto gradient = [&](Tensor dw, bool accumulate) {
    ops::GroupedMatMulDw({.dy = dy.Ref(),
                          .x = x.Ref(),
                          .offsets = offsets.Ref(),
                          .dw = dw.MutableRef(),
                          .accumulate = accumulate},
                         kCpuStream);
    return dw;
  };
  const Tensor added = gradient(Tensor::Zeros({3, 3, 4}, DType::kF32), true),
               set = gradient(RandomTensor({3, 3, 4}, DType::kF32, 3), false);
  EXPECT_TRUE(test::SameBits(added, set));
  EXPECT_EQ(set.Slice(1, 2).ToDoubles(), std::vector<double>(12, 0.0));  // no rows
}

TEST(GroupedMatMul, OffsetsThatDoNotCutTheRowsAreAnError) {
  const Tensor x = RandomTensor({4, 5}, DType::kF32, 1),
               w = RandomTensor({2, 3, 5}, DType::kF32, 2);
  Tensor y = Tensor::Empty({4, 3}, DType::kF32);
  for (const std::vector<int64_t>& bad : {std::vector<int64_t>{0, 2, 3}, {0, 5, 4}, {1, 2, 4}}) {
    const Tensor offsets = Tensor::FromVector(bad, {3});
    EXPECT_THROW(ops::GroupedMatMul(
                     {.x = x.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
                     kCpuStream),
                 Error);
  }
}

TEST(Gradients, WideLinear) {
  Parameter gate = test::RandomParameter("gate", {6, 5}, DType::kF64, 1);
  EXPECT_TRUE(test::GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{WideLinear(t, in[0], gate)};
      },
      {RandomTensor({11, 5}, DType::kF64, 2)}, {&gate}));
}

// Logits of bf16 inputs are f32: exactly the f32 product of the widened numbers, with no rounding
// to bf16.
TEST(WideLinear, KeepsTheLogitsOfBFloat16InF32) {
  const Tensor x = RandomTensor({9, 16}, DType::kBF16, 2);
  Parameter gate = test::RandomParameter("gate", {6, 16}, DType::kBF16, 1),
            wide = test::RandomParameter("gate", {6, 16}, DType::kF32, 1);
  wide.value = gate.value.To(DType::kF32);
  Tape tape(Tape::Mode::kInference);
  const Tensor logits = WideLinear(tape, Variable(x), gate).value();
  ASSERT_EQ(logits.dtype(), DType::kF32);
  EXPECT_TRUE(test::SameBits(logits, WideLinear(tape, Variable(x.To(DType::kF32)), wide).value()));
}

}  // namespace
}  // namespace lacuna
