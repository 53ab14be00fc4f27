// Grouped products on CUDA: against the CPU's, and what must stay as it is.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <utility>

#include "moe/grouped_matmul.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::OnDevice;
using test::RandomTensor;
using test::SameBits;

constexpr DType kTypes[] = {DType::kF32, DType::kBF16};

Tensor Offsets(const std::vector<int64_t>& offsets) {
  return OnDevice(Tensor::FromVector(offsets, {static_cast<int64_t>(offsets.size())}));
}

struct Shapes {
  int64_t in, out;
  std::vector<int64_t> offsets;
};

// y, dx and dw of random operands; dw is added to what is there, and set.
std::vector<Tensor> Products(const Shapes& s, DType dtype) {
  const int64_t experts = static_cast<int64_t>(s.offsets.size()) - 1, rows = s.offsets.back();
  const Tensor offsets = Offsets(s.offsets), x = OnDevice(RandomTensor({rows, s.in}, dtype, 1)),
               dy = OnDevice(RandomTensor({rows, s.out}, dtype, 2)),
               w = OnDevice(RandomTensor({experts, s.out, s.in}, dtype, 3));
  Tensor y = Tensor::EmptyLike(dy), dx = Tensor::EmptyLike(x),
         dw = OnDevice(RandomTensor({experts, s.out, s.in}, DType::kF32, 4));
  ops::GroupedMatMul({.x = x.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
                     CudaStream());
  ops::GroupedMatMul({.x = dy.Ref(),
                      .w = w.Ref(),
                      .offsets = offsets.Ref(),
                      .y = dx.MutableRef(),
                      .transpose_w = false},
                     CudaStream());
  Tensor set = dw.Clone();
  for (const bool accumulate : {true, false}) {
    ops::GroupedMatMulDw({.dy = dy.Ref(),
                          .x = x.Ref(),
                          .offsets = offsets.Ref(),
                          .dw = (accumulate ? dw : set).MutableRef(),
                          .accumulate = accumulate},
                         CudaStream());
  }
  return {y.To(kCpu), dx.To(kCpu), dw.To(kCpu), set.To(kCpu)};
}

TEST(CudaGroupedMatMul, EqualsTheCpu) {
  std::vector<int64_t> many(301);  // most experts hold no or one row
  for (size_t e = 0; e < many.size(); ++e) many[e] = static_cast<int64_t>(e / 2);
  const std::vector<Shapes> shapes = {
      {1, 1, {0, 1}},
      {5, 7, {0, 3, 3, 4, 10}},       // odd widths, experts without rows
      {33, 300, {0, 600, 600, 601}},  // all rows in one expert
      {300, 33, {0, 0, 520, 520}},
      {4, 4, {0, 0, 0, 9}},
      {8, 8, {0, 0, 0}},  // no rows
      {8, 16, {0, 1, 2, 3}},
      {64, 128, {0, 128, 256}},        // tiles of exactly one size
      {72, 136, {0, 127, 256, 385}},   // one less, one more
      {136, 264, {0, 129, 129, 200}},  // multiples of 8 that no tile divides
      {264, 520, {0, 37, 350}},
      {192, 260, {0, 50, 150}},  // packed depth, columns that are not
      {260, 192, {0, 50, 150}},
      {48, 40, many},
  };
  for (const Shapes& s : shapes) {
    for (const DType dtype : kTypes) {
      SCOPED_TRACE(testing::Message() << s.in << " -> " << s.out << ", " << s.offsets.back()
                                      << " rows " << NameOf(dtype));
      const test::CudaParity parity;
      Products(s, dtype);
    }
  }
}

TEST(CudaGroupedMatMul, EqualsTheCpuAtATrainingStepsWidth) {
  for (const DType dtype : kTypes) {
    const test::CudaParity parity;
    Products({2560, 3072, {0, 341, 341, 700}}, dtype);
  }
}

TEST(CudaGroupedMatMul, TheSameBitsTwice) {
  for (const DType dtype : kTypes) {
    const Shapes s = {264, 520, {0, 37, 37, 350, 900}};
    const std::vector<Tensor> a = Products(s, dtype), b = Products(s, dtype);
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(SameBits(a[i], b[i])) << i;
  }
}

// A row's bits do not depend on the rows around it.
TEST(CudaGroupedMatMul, ARowHasTheBitsItHasAlone) {
  for (const DType dtype : kTypes) {
    const Tensor x = OnDevice(RandomTensor({300, 200}, dtype, 1)),
                 w = OnDevice(RandomTensor({2, 264, 200}, dtype, 2));
    const auto product = [&](int64_t begin, int64_t end, const std::vector<int64_t>& cut) {
      const Tensor rows = x.Slice(begin, end), offsets = Offsets(cut);
      Tensor y = Tensor::Empty({end - begin, 264}, dtype, CudaDevice());
      ops::GroupedMatMul(
          {.x = rows.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
          CudaStream());
      return y;
    };
    const Tensor all = product(0, 300, {0, 7, 300});
    EXPECT_TRUE(SameBits(all.Slice(200, 201).To(kCpu), product(200, 201, {0, 0, 1}).To(kCpu)));
    EXPECT_TRUE(SameBits(all.Slice(6, 300).To(kCpu), product(6, 300, {0, 1, 294}).To(kCpu)));
  }
}

// Matrices of experts without rows may hold anything; their gradients stay as they are.
TEST(CudaGroupedMatMul, ExpertsWithoutRowsAreLeftAlone) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const DType dtype : kTypes) {
    Tensor w = RandomTensor({3, 40, 24}, dtype, 3);
    w.Slice(1, 2).CopyFrom(
        Tensor::FromDoubles(std::vector<double>(40 * 24, nan), {1, 40, 24}, dtype));
    const Tensor before = RandomTensor({3, 40, 24}, DType::kF32, 4), there = OnDevice(w),
                 offsets = Offsets({0, 130, 130, 200}),
                 x = OnDevice(RandomTensor({200, 24}, dtype, 1)),
                 dy = OnDevice(RandomTensor({200, 40}, dtype, 2));
    Tensor y = Tensor::EmptyLike(dy), dw = OnDevice(before);
    ops::GroupedMatMul(
        {.x = x.Ref(), .w = there.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
        CudaStream());
    for (const double v : y.ToDoubles()) ASSERT_TRUE(std::isfinite(v));
    ops::GroupedMatMulDw(
        {.dy = dy.Ref(), .x = x.Ref(), .offsets = offsets.Ref(), .dw = dw.MutableRef()},
        CudaStream());
    EXPECT_TRUE(SameBits(dw.To(kCpu).Slice(1, 2), before.Slice(1, 2)));
    EXPECT_FALSE(SameBits(dw.To(kCpu).Slice(2, 3), before.Slice(2, 3)));
  }
}

// Products write inside y and dw, also where the offsets are nonsense (which throws on the CPU).
TEST(CudaGroupedMatMul, NothingAroundTheOutputsIsTouched) {
  const int64_t rows = 150, in = 24, out = 40, guard = 4096;
  for (const DType dtype : kTypes) {
    for (const std::vector<int64_t>& cut :
         {std::vector<int64_t>{0, 130, 130, 150}, {0, 200, 50, 1000}, {-7, 100, 20, 150}}) {
      const Tensor offsets = Offsets(cut), x = OnDevice(RandomTensor({rows, in}, dtype, 1)),
                   dy = OnDevice(RandomTensor({rows, out}, dtype, 2)),
                   w = OnDevice(RandomTensor({3, out, in}, dtype, 3)),
                   y_before = RandomTensor({2 * guard + rows * out}, dtype, 4),
                   dw_before = RandomTensor({2 * guard + 3 * out * in}, DType::kF32, 5);
      const Tensor y_all = OnDevice(y_before), dw_all = OnDevice(dw_before);
      Tensor y = y_all.View(guard, {rows, out}), dw = dw_all.View(guard, {3, out, in});
      ops::GroupedMatMul(
          {.x = x.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
          CudaStream());
      ops::GroupedMatMulDw(
          {.dy = dy.Ref(), .x = x.Ref(), .offsets = offsets.Ref(), .dw = dw.MutableRef()},
          CudaStream());
      for (const auto& [after, before] :
           {std::pair{y_all.To(kCpu), y_before}, std::pair{dw_all.To(kCpu), dw_before}}) {
        const int64_t n = before.numel();
        EXPECT_TRUE(SameBits(after.Slice(0, guard), before.Slice(0, guard)));
        EXPECT_TRUE(SameBits(after.Slice(n - guard, n), before.Slice(n - guard, n)));
      }
    }
  }
}

}  // namespace
}  // namespace lacuna
