// Products whose rows do not depend on each other, on CUDA: phi's of the published shape and odd ones.
#include <gtest/gtest.h>

#include "tests/core/batch_invariance.h"
#include "tests/support/cuda_parity.h"

namespace lacuna {
namespace {

class CudaBatchInvariantMatMul : public testing::TestWithParam<DType> {};

TEST_P(CudaBatchInvariantMatMul, RowsHaveTheBitsTheyHaveAmongOthers) {
  for (const test::InvariantProduct& p : {test::InvariantProduct{384, 6144, true},
                                          {192, 6144, true},
                                          {192, 384, true},
                                          {384, 192, false},
                                          {6144, 384, false},
                                          {256, 4096, true},
                                          {4096, 256, false},
                                          {128, 256, true},
                                          {32, 128, true},
                                          {24, 40, false},
                                          {5, 7, true},
                                          {33, 100, false},
                                          {2, 64, true}}) {
    test::ExpectBatchInvariant(p, GetParam(), GetParam(), test::CudaStream());
    if (GetParam() != DType::kF32)
      test::ExpectBatchInvariant(p, GetParam(), DType::kF32, test::CudaStream());
  }
}

TEST_P(CudaBatchInvariantMatMul, AgreesWithTheCpu) {
  const test::CudaParity parity;
  for (const int64_t rows : {1, 7, 64, 130}) {
    const Tensor a = test::OnDevice(test::RandomTensor({rows, 512}, GetParam(), 1)),
                 b = test::OnDevice(test::RandomTensor({96, 512}, GetParam(), 2));
    Tensor c = Tensor::Empty({rows, 96}, GetParam(), CudaDevice());
    ops::MatMul({.a = a.Ref(),
                 .b = b.Ref(),
                 .c = c.MutableRef(),
                 .transpose_b = true,
                 .batch_invariant = true},
                test::CudaStream());
  }
}

// cuBLAS splits the sums of a single column.
TEST(CudaBatchInvariantMatMulOfOneColumn, IsRefused) {
  EXPECT_THROW(test::ExpectBatchInvariant({1, 64, true}, DType::kBF16, DType::kBF16,
                                          test::CudaStream()),
               Error);
}

INSTANTIATE_TEST_SUITE_P(All, CudaBatchInvariantMatMul, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace lacuna
