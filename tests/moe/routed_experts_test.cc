// RoutedExperts and the two operators that only it uses.
#include <gtest/gtest.h>

#include <cmath>

#include "moe/functions.h"
#include "moe/grouped_matmul.h"
#include "moe/grouped_swiglu.h"
#include "moe/permute.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomIds;
using test::RandomTensor;
using test::SameBits;

RoutedRows Sort(const Tensor& ids, int64_t experts) {
  RoutedRows rows{Tensor::Empty({experts + 1}, DType::kI64), Tensor::EmptyLike(ids)};
  ops::SortByExpert({.ids = ids.Ref(),
                     .offsets = rows.offsets.MutableRef(),
                     .position = rows.position.MutableRef()},
                    kCpuStream);
  return rows;
}

TEST(RoutedExperts, Gradients) {
  // Expert 3 of 5 gets no row.
  const Tensor ids =
      Tensor::FromVector(std::vector<int32_t>{0, 1, 4, 2, 2, 0, 1, 0, 4, 1, 0, 2, 4, 0}, {7, 2});
  const RoutedRows rows = Sort(ids, 5);
  Parameter gate_up = test::RandomParameter("gate_up", {5, 6, 4}, DType::kF64, 1),
            down = test::RandomParameter("down", {5, 4, 3}, DType::kF64, 2);
  EXPECT_TRUE(test::GradCheck(
      [&](Tape& t, const std::vector<Variable>& in) {
        return std::vector<Variable>{RoutedExperts(t, in[0], in[1], rows, gate_up, down)};
      },
      {RandomTensor({7, 4}, DType::kF64, 3), RandomTensor({7, 2}, DType::kF64, 4)},
      {&gate_up, &down}));
}

// Numbers of which every product and sum is exact, so that their order shows nowhere: gates so large
// that SwiGLU is gate * up. Then chunks change no bit, and each one's tokens are read and written in
// its turn alone.
TEST(RoutedExperts, ChunksChangeNothing) {
  constexpr int64_t kTokens = 21, kChosen = 3, kExperts = 5, kWidth = 6, kHidden = 4;
  const auto whole_numbers = [](const Shape& shape, DType dtype, uint64_t seed, double from) {
    std::vector<double> values = RandomIds(shape, 4, seed).ToDoubles();
    for (double& v : values) v += from;
    return Tensor::FromDoubles(values, shape, dtype);
  };
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    Tensor ids = RandomIds({kTokens, kChosen}, kExperts, 1);
    for (int64_t i = 0; i < ids.numel(); i += 4) ids.mutable_data<int32_t>()[i] = -1;
    const Tensor x = whole_numbers({kTokens, kWidth}, dtype, 2, 1),
                 dy = whole_numbers({kTokens, kWidth}, dtype, 3, -1);
    Tensor weights = whole_numbers({kTokens, kChosen}, AccumulationType(dtype), 4, 1);
    Parameter gate_up = test::RandomParameter("gate_up", {kExperts, 2 * kHidden, kWidth}, dtype, 5),
              down = test::RandomParameter("down", {kExperts, kWidth, kHidden}, dtype, 6);
    std::vector<double> matrices = whole_numbers(gate_up.shape, DType::kF64, 7, 0).ToDoubles();
    for (size_t i = 0; i < matrices.size(); ++i)
      matrices[i] = i / kWidth % (2 * kHidden) < kHidden ? 16 : matrices[i] - 1;
    gate_up.value.CopyFrom(Tensor::FromDoubles(matrices, gate_up.shape, dtype));
    down.value.CopyFrom(whole_numbers(down.shape, dtype, 8, -1));
    const auto run = [&](const std::vector<int64_t>& begins) {
      const auto chunks = static_cast<int64_t>(begins.size()) - 1;
      Tensor keys = ids.Clone(), there = x.Clone(), y = Tensor::Zeros(x.shape(), dtype);
      if (chunks > 1)
        there.CopyFrom(Tensor::FromDoubles(std::vector<double>(x.numel(), NAN), x.shape(), dtype));
      RoutedRows rows{.offsets = Tensor::Empty({kExperts * chunks + 1}, DType::kI64),
                      .position = Tensor::EmptyLike(ids),
                      .chunk_begins = begins};
      for (size_t p = 0; p + 1 < begins.size(); ++p) {
        for (int64_t i = begins[p] * kChosen; i < begins[p + 1] * kChosen; ++i) {
          int32_t& key = keys.mutable_data<int32_t>()[i];
          if (key >= 0) key = key * static_cast<int32_t>(chunks) + static_cast<int32_t>(p);
        }
      }
      ops::SortByExpert({.ids = keys.Ref(),
                         .offsets = rows.offsets.MutableRef(),
                         .position = rows.position.MutableRef(),
                         .may_be_none = true},
                        kCpuStream);
      rows.num_choices = static_cast<int64_t>(rows.offsets.ToDoubles().back());
      gate_up.grad.Zero();
      down.grad.Zero();
      std::vector<int64_t> events;
      Tape tape;
      const Variable in = tape.Leaf(there), w = tape.Leaf(weights);
      const auto of = [&](const Tensor& tokens, int64_t p) {
        return tokens.Slice(begins[static_cast<size_t>(p)], begins[static_cast<size_t>(p) + 1]);
      };
      const Variable out = RoutedExperts(tape, in, w, rows, gate_up, down,
                                         {.arrive =
                                              [&](int64_t p) {
                                                events.push_back(p);
                                                of(there, p).CopyFrom(of(x, p));
                                              },
                                          .leave =
                                              [&](int64_t p, const Tensor& left) {
                                                events.push_back(-1 - p);
                                                of(y, p).CopyFrom(left);
                                              }});
      std::vector<int64_t> expected;
      for (int64_t p = 0; p < chunks; ++p) expected.insert(expected.end(), {p, -1 - p});
      EXPECT_EQ(events, expected);
      EXPECT_TRUE(SameBits(out.value(), y));
      tape.Backward({{out, dy}});
      return std::vector<Tensor>{y, tape.Grad(in), tape.Grad(w), gate_up.grad.Clone(),
                                 down.grad.Clone()};
    };
    const std::vector<Tensor> whole = run({0, kTokens});
    for (const std::vector<int64_t>& begins :
         {std::vector<int64_t>{0, 10, kTokens}, {0, 0, 7, 7, 20, kTokens}, {0, kTokens, kTokens}}) {
      SCOPED_TRACE(testing::Message() << NameOf(dtype) << ", " << begins.size() - 1 << " chunks");
      const std::vector<Tensor> chunked = run(begins);
      for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(SameBits(chunked[i], whole[i])) << i;
    }
    for (const double v : whole[3].ToDoubles()) ASSERT_TRUE(std::isfinite(v));
  }
}

TEST(RoutedExperts, WithoutTokens) {
  const RoutedRows rows = Sort(Tensor::Empty({0, 2}, DType::kI32), 3);
  Parameter gate_up = test::RandomParameter("gate_up", {3, 6, 4}, DType::kF32, 1),
            down = test::RandomParameter("down", {3, 4, 3}, DType::kF32, 2);
  Tape tape;
  const Variable x = tape.Leaf(Tensor::Empty({0, 4}, DType::kF32)),
                 w = tape.Leaf(Tensor::Empty({0, 2}, DType::kF32)),
                 y = RoutedExperts(tape, x, w, rows, gate_up, down);
  EXPECT_EQ(y.value().shape(), (Shape{0, 4}));
  tape.Backward({{y, Tensor::Empty({0, 4}, DType::kF32)}});
  EXPECT_EQ(tape.Grad(x).shape(), (Shape{0, 4}));
}

// h is computed from z as it is stored: the same bits as SwiGLU's own operator.
TEST(GroupedSwiGlu, RoundsTheProductFirst) {
  const Tensor x = RandomTensor({9, 16}, DType::kBF16, 1),
               w = RandomTensor({2, 12, 16}, DType::kBF16, 2),
               offsets = Tensor::FromVector(std::vector<int64_t>{0, 4, 9}, {3});
  Tensor z = Tensor::Empty({9, 12}, DType::kBF16), h = Tensor::Empty({9, 6}, DType::kBF16);
  ops::GroupedSwiGlu({.x = x.Ref(),
                      .w = w.Ref(),
                      .offsets = offsets.Ref(),
                      .z = z.MutableRef(),
                      .h = h.MutableRef()},
                     kCpuStream);
  const std::vector<double> pre = z.ToDoubles(), out = h.ToDoubles();
  for (size_t r = 0; r < 9; ++r) {
    for (size_t f = 0; f < 6; ++f) {
      const double gate = pre[r * 12 + f], up = pre[r * 12 + 6 + f],
                   expected = gate / (1 + std::exp(-gate)) * up;
      EXPECT_NEAR(out[r * 6 + f], expected, std::abs(expected) / 256 + 1e-30);
    }
  }
}

// The weight's gradient is what the token's gradient and the expert's output give.
TEST(RoutedSwiGluBwd, EqualsTheFormulasInAnyType) {
  const int64_t tokens = 11, chosen = 3, width = 7, c = 5, experts = 4;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const RoutedRows rows = Sort(RandomIds({tokens, chosen}, experts, 1), experts);
    const Tensor z = RandomTensor({tokens * chosen, 2 * width}, dtype, 2),
                 dy = RandomTensor({tokens * chosen, c}, dtype, 3),
                 down = RandomTensor({experts, c, width}, dtype, 5),
                 w = RandomTensor({tokens, chosen}, AccumulationType(dtype), 4);
    Tensor dz = Tensor::EmptyLike(z), wh = Tensor::Empty({tokens * chosen, width}, dtype),
           dh = Tensor::EmptyLike(wh), dw = Tensor::EmptyLike(w);
    const auto run = [&](const Tensor& in, Tensor& out) {
      ops::RoutedSwiGluBwd({.dy = dy.Ref(),
                            .down = down.Ref(),
                            .offsets = rows.offsets.Ref(),
                            .z = in.Ref(),
                            .position = rows.position.Ref(),
                            .w = w.Ref(),
                            .dz = out.MutableRef(),
                            .wh = wh.MutableRef(),
                            .dw = dw.MutableRef()},
                           kCpuStream);
    };
    run(z, dz);
    ops::GroupedMatMul({.x = dy.Ref(),
                        .w = down.Ref(),
                        .offsets = rows.offsets.Ref(),
                        .y = dh.MutableRef(),
                        .transpose_w = false},
                       kCpuStream);
    const std::vector<double> pre = z.ToDoubles(), grad = dh.ToDoubles(), weight = w.ToDoubles();
    std::vector<double> dz_true(pre.size()), wh_true(grad.size()), dw_true(weight.size());
    for (size_t i = 0; i < weight.size(); ++i) {
      const auto r = static_cast<size_t>(rows.position.data<int32_t>()[i]);
      for (size_t f = 0; f < width; ++f) {
        const size_t g = r * 2 * width + f, u = g + width;
        const double s = 1 / (1 + std::exp(-pre[g])), h = pre[g] * s * pre[u],
                     d = grad[r * width + f];
        dw_true[i] += d * h;
        wh_true[r * width + f] = weight[i] * h;
        dz_true[g] = weight[i] * d * pre[u] * (s + pre[g] * s * (1 - s));
        dz_true[u] = weight[i] * d * pre[g] * s;
      }
    }
    EXPECT_TRUE(test::Close(dz, dz_true, test::Tolerance(dtype)));
    EXPECT_TRUE(test::Close(wh, wh_true, test::Tolerance(dtype)));
    EXPECT_TRUE(test::Close(dw, dw_true, test::Tolerance(dtype)));
    Tensor in_place = z.Clone();
    run(in_place, in_place);
    EXPECT_TRUE(SameBits(in_place, dz));
  }
}

}  // namespace
}  // namespace lacuna
