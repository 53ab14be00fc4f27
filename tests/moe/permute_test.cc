// Sorting rows by expert and bringing them back.
#include "moe/permute.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomIds;
using test::RandomTensor;
using test::SameBits;

struct Sorted {
  Tensor offsets, position;
};
Sorted Sort(const Tensor& ids, int64_t experts) {
  Sorted s{Tensor::Empty({experts + 1}, DType::kI64), Tensor::EmptyLike(ids)};
  ops::SortByExpert(
      {.ids = ids.Ref(), .offsets = s.offsets.MutableRef(), .position = s.position.MutableRef()},
      kCpuStream);
  return s;
}

TEST(SortByExpert, StableWithEmptyExperts) {
  const Tensor ids = Tensor::FromVector(std::vector<int32_t>{2, 0, 4, 2, 0, 2}, {3, 2});
  const Sorted s = Sort(ids, 6);
  EXPECT_EQ(s.offsets.ToDoubles(), (std::vector<double>{0, 2, 2, 5, 5, 6, 6}));
  EXPECT_EQ(s.position.ToDoubles(), (std::vector<double>{2, 0, 5, 3, 1, 4}));
}

TEST(SortByExpert, AllInOneAndNone) {
  const Sorted one = Sort(Tensor::FromVector(std::vector<int32_t>(6, 1), {6, 1}), 3);
  EXPECT_EQ(one.offsets.ToDoubles(), (std::vector<double>{0, 0, 6, 6}));
  EXPECT_EQ(one.position.ToDoubles(), (std::vector<double>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(Sort(Tensor::Empty({0, 2}, DType::kI32), 3).offsets.ToDoubles(),
            (std::vector<double>{0, 0, 0, 0}));
}

TEST(SortByExpert, AnExpertThatIsNotThereIsAnError) {
  for (const int32_t bad : {-1, 3}) {
    const Tensor ids = Tensor::FromVector(std::vector<int32_t>{0, bad}, {1, 2});
    EXPECT_THROW(Sort(ids, 3), Error);
  }
}

TEST(Permute, RowsLandAtTheirExpertAndComeBack) {
  const int64_t rows = 131, chosen = 4, columns = 9, experts = 6;
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kBF16}) {
    const Tensor ids = RandomIds({rows, chosen}, experts, 1),
                 x = RandomTensor({rows, columns}, dtype, 2);
    const Sorted s = Sort(ids, experts);
    Tensor there = Tensor::Empty({rows * chosen, columns}, dtype), back = Tensor::EmptyLike(x);
    ops::PermuteRows({.x = x.Ref(), .position = s.position.Ref(), .y = there.MutableRef()},
                     kCpuStream);
    const std::vector<double> routed = there.ToDoubles(), original = x.ToDoubles();
    const int32_t *position = s.position.data<int32_t>(), *id = ids.data<int32_t>();
    const int64_t* offsets = s.offsets.data<int64_t>();
    for (int64_t i = 0; i < rows * chosen; ++i) {
      ASSERT_TRUE(position[i] >= offsets[id[i]] && position[i] < offsets[id[i] + 1]);
      for (int64_t c = 0; c < columns; ++c)
        ASSERT_EQ(routed[position[i] * columns + c], original[i / chosen * columns + c]);
    }
    // K weights of 1/K add up exactly to the row they came from.
    const Tensor weights = Tensor::FromDoubles(std::vector<double>(rows * chosen, 0.25),
                                               {rows, chosen}, AccumulationType(dtype));
    ops::UnpermuteRows({.x = there.Ref(),
                        .position = s.position.Ref(),
                        .w = weights.Ref(),
                        .y = back.MutableRef()},
                       kCpuStream);
    EXPECT_TRUE(SameBits(back, x));
  }
}

// A bf16 sum of many rows is rounded once: 256 + 1 + 1 is 258, where rounding after each addition
// would lose both ones.
TEST(Permute, SumsAreRoundedOnce) {
  const Tensor x = Tensor::FromDoubles({256, 1, 1}, {3, 1}, DType::kBF16);
  const Tensor position = Tensor::FromVector(std::vector<int32_t>{0, 1, 2}, {1, 3});
  Tensor y = Tensor::Empty({1, 1}, DType::kBF16);
  ops::UnpermuteRows({.x = x.Ref(), .position = position.Ref(), .w = {}, .y = y.MutableRef()},
                     kCpuStream);
  EXPECT_EQ(y.ToDoubles()[0], 258);
}

}  // namespace
}  // namespace lacuna
