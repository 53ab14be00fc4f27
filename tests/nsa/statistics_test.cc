// What a step reports about sparse attention, by hand.
#include <gtest/gtest.h>

#include "core/error.h"
#include "nsa/nsa_statistics.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

// Blocks of 4 tokens, 2 selected, a window of 3: token 8 and later ones have something to choose.
TEST(NsaStatistics, CountsQueriesThatChoose) {
  const Tensor gate = Tensor::FromDoubles({0.5, 0.25, 1, 1.5, 0.75, 2, 1, 0, 0, 2, 0, 1}, {4, 1, 3},
                                          DType::kF64),
               entropy = Tensor::FromDoubles({9, 9, 0.5, 0.25}, {4, 1}, DType::kF64);
  // Positions 3 and 7 see no more than two blocks. Position 8's window is tokens 6 to 8: block 1
  // (tokens 4 to 7) reaches into it, block 0 does not. Position 13's is 11 to 13: block 2 does; its
  // list has one block.
  const Tensor blocks =
      Tensor::FromVector(std::vector<int32_t>{0, -1, 0, 1, 0, 1, 2, -1}, {4, 1, 2});
  const Tensor positions = Tensor::FromVector(std::vector<int32_t>{3, 7, 8, 13}, {4});
  Tensor sums = Tensor::Empty({kNumNsaStatistics}, DType::kF64);
  ops::NsaStatistics({.gate = gate.Ref(),
                      .entropy = entropy.Ref(),
                      .blocks = blocks.Ref(),
                      .positions = positions.Ref(),
                      .sums = sums.MutableRef(),
                      .select_block = 4,
                      .window = 3},
                     kCpuStream);
  EXPECT_TRUE(test::Close(sums, {5, 1, 4, 0.75, 2, 2, 3}, 0));
}

TEST(NsaStatistics, RefusesOtherShapes) {
  Tensor sums = Tensor::Empty({6}, DType::kF64);
  const Tensor gate = Tensor::Zeros({2, 1, 3}, DType::kF64),
               entropy = Tensor::Zeros({2, 1}, DType::kF64),
               blocks = Tensor::Zeros({2, 1, 2}, DType::kI32),
               positions = Tensor::Zeros({2}, DType::kI32);
  EXPECT_THROW(ops::NsaStatistics({gate.Ref(), entropy.Ref(), blocks.Ref(), positions.Ref(),
                                   sums.MutableRef(), 4, 3},
                                  kCpuStream),
               Error);
}

}  // namespace
}  // namespace lacuna
