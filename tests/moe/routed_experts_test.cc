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
