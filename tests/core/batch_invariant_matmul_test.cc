// Products whose rows do not depend on each other, on the CPU.
#include <gtest/gtest.h>

#include "core/parallel.h"
#include "tests/core/batch_invariance.h"

namespace lacuna {
namespace {

class BatchInvariantMatMul : public testing::TestWithParam<DType> {};

TEST_P(BatchInvariantMatMul, RowsHaveTheBitsTheyHaveAmongOthers) {
  for (const test::InvariantProduct& p : {test::InvariantProduct{96, 700, true},
                                          {200, 256, true},
                                          {200, 257, false},
                                          {5, 7, true},
                                          {1, 1, false}}) {
    test::ExpectBatchInvariant(p, GetParam(), GetParam(), kCpuStream);
    test::ExpectBatchInvariant(p, GetParam(), AccumulationType(GetParam()), kCpuStream);
  }
}

TEST_P(BatchInvariantMatMul, TheNumberOfThreadsIsNotSeen) {
  const Tensor a = test::RandomTensor({300, 300}, GetParam(), 1),
               b = test::RandomTensor({300, 210}, GetParam(), 2);
  const auto product = [&] {
    Tensor c = Tensor::Empty({300, 210}, GetParam());
    ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef(), .batch_invariant = true},
                kCpuStream);
    return c;
  };
  const int threads = NumThreads();
  SetNumThreads(1);
  const Tensor one = product();
  SetNumThreads(3);
  const Tensor three = product();
  SetNumThreads(threads);
  EXPECT_TRUE(test::SameBits(one, three));
}

TEST_P(BatchInvariantMatMul, EmptyOperands) {
  const Tensor a = Tensor::Empty({3, 0}, GetParam()), b = Tensor::Empty({0, 4}, GetParam()),
               none = Tensor::Empty({0, 3}, GetParam()), some = Tensor::Zeros({3, 4}, GetParam());
  Tensor c = Tensor::FromDoubles(std::vector<double>(12, 5.0), {3, 4}, GetParam()),
         empty = Tensor::Empty({0, 4}, GetParam());
  ops::MatMul({.a = a.Ref(), .b = b.Ref(), .c = c.MutableRef(), .batch_invariant = true},
              kCpuStream);
  EXPECT_EQ(c.ToDoubles(), std::vector<double>(12, 0.0));
  ops::MatMul({.a = none.Ref(), .b = some.Ref(), .c = empty.MutableRef(), .batch_invariant = true},
              kCpuStream);
}

TEST_P(BatchInvariantMatMul, RefusesATransposed) {
  const Tensor a = Tensor::Zeros({4, 4}, GetParam());
  Tensor c = Tensor::Empty({4, 4}, GetParam());
  EXPECT_THROW(ops::MatMul({.a = a.Ref(),
                            .b = a.Ref(),
                            .c = c.MutableRef(),
                            .transpose_a = true,
                            .batch_invariant = true},
                           kCpuStream),
               Error);
}

INSTANTIATE_TEST_SUITE_P(All, BatchInvariantMatMul,
                         testing::Values(DType::kF64, DType::kF32, DType::kBF16),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace lacuna
