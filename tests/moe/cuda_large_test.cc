// Rows by expert where a tensor has more than 2^31 elements: no index wraps.
#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/matmul.h"
#include "core/ops/random_normal.h"
#include "moe/grouped_matmul.h"
#include "moe/permute.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::OnDevice;
using test::SameBits;

constexpr int64_t kWidth = 2560;

Tensor Normal(const Shape& shape, uint64_t seed) {
  Tensor y = Tensor::Empty(shape, DType::kF32, CudaDevice());
  ops::RandomNormal({.y = y.MutableRef(), .key = 1, .stream = seed, .std = 1}, CudaStream());
  Tensor rounded = Tensor::Empty(shape, DType::kBF16, CudaDevice());
  ops::Cast({.x = y.Ref(), .y = rounded.MutableRef()}, CudaStream());
  return rounded;
}
// Rows of whole numbers from -2 to 2: their products add up in f32 without rounding up to 2^24,
// whatever the order, where tensor cores' sums of so many rows otherwise lose 1e-3.
Tensor WholeNumbers(const Shape& shape, uint64_t seed) {
  constexpr int32_t kKinds = 509;
  const Tensor ids = test::RandomIds({kKinds, shape[1]}, 5, seed);
  std::vector<float> values;
  for (int64_t i = 0; i < ids.numel(); ++i)
    values.push_back(static_cast<float>(ids.data<int32_t>()[i]) - 2);
  const Tensor table = OnDevice(Tensor::FromVector(values, ids.shape()).To(DType::kBF16));
  Tensor y = Tensor::Empty(shape, DType::kBF16, CudaDevice());
  ops::EmbeddingFwd({.w = table.Ref(),
                     .ids = OnDevice(test::RandomIds({shape[0]}, kKinds, seed + 1)).Ref(),
                     .y = y.MutableRef()},
                    CudaStream());
  return y;
}
Tensor Offsets(const std::vector<int64_t>& offsets) {
  return OnDevice(Tensor::FromVector(offsets, {static_cast<int64_t>(offsets.size())}));
}

// The last rows of the product of many are those of the product of the last alone.
TEST(CudaLarge, GroupedMatMul) {
  constexpr int64_t kRows = 860'000, kCut = 430'001, kOut = 64, kTail = 300;
  static_assert(kRows * kWidth > int64_t{1} << 31);
  const Tensor x = WholeNumbers({kRows, kWidth}, 1), dy = WholeNumbers({kRows, kOut}, 3),
               w = WholeNumbers({2 * kOut, kWidth}, 5).View(0, {2, kOut, kWidth});
  const auto products = [&](int64_t begin, const std::vector<int64_t>& cut) {
    const Tensor offsets = Offsets(cut), rows = x.Slice(begin, kRows),
                 drows = dy.Slice(begin, kRows);
    Tensor y = Tensor::Empty(drows.shape(), DType::kBF16, CudaDevice()),
           dx = Tensor::Empty(rows.shape(), DType::kBF16, CudaDevice());
    ops::GroupedMatMul(
        {.x = rows.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()},
        CudaStream());
    ops::GroupedMatMul({.x = drows.Ref(),
                        .w = w.Ref(),
                        .offsets = offsets.Ref(),
                        .y = dx.MutableRef(),
                        .transpose_w = false},
                       CudaStream());
    const int64_t n = y.dim(0);
    return std::vector<Tensor>{y.Slice(n - kTail, n).To(kCpu), dx.Slice(n - kTail, n).To(kCpu)};
  };
  const std::vector<Tensor> all = products(0, {0, kCut, kRows}),
                            alone = products(kRows - kTail, {0, 0, kTail});
  EXPECT_TRUE(SameBits(all[0], alone[0]));
  EXPECT_TRUE(SameBits(all[1], alone[1]));

  Tensor dw = Tensor::Empty({2, kOut, kWidth}, DType::kF32, CudaDevice()),
         expected = Tensor::EmptyLike(dw);
  ops::GroupedMatMulDw({.dy = dy.Ref(),
                        .x = x.Ref(),
                        .offsets = Offsets({0, kCut, kRows}).Ref(),
                        .dw = dw.MutableRef(),
                        .accumulate = false},
                       CudaStream());
  for (int64_t e = 0; e < 2; ++e) {
    const int64_t begin = e == 0 ? 0 : kCut, end = e == 0 ? kCut : kRows;
    ops::MatMul({.a = dy.Slice(begin, end).Ref(),
                 .b = x.Slice(begin, end).Ref(),
                 .c = expected.View(e * kOut * kWidth, {kOut, kWidth}).MutableRef(),
                 .transpose_a = true},
                CudaStream());
  }
  EXPECT_TRUE(SameBits(dw.To(kCpu), expected.To(kCpu)));
}

TEST(CudaLarge, PermuteAndUnpermute) {
  constexpr int64_t kTokens = 143'400, kChosen = 6, kExperts = 72;
  static_assert(kTokens * kChosen * kWidth > int64_t{1} << 31);
  const Tensor x = Normal({kTokens, kWidth}, 4),
               ids = OnDevice(test::RandomIds({kTokens, kChosen}, kExperts, 5));
  Tensor offsets = Tensor::Empty({kExperts + 1}, DType::kI64, CudaDevice()),
         position = Tensor::EmptyLike(ids),
         rows = Tensor::Empty({kTokens * kChosen, kWidth}, DType::kBF16, CudaDevice()),
         back = Tensor::EmptyLike(x);
  ops::SortByExpert(
      {.ids = ids.Ref(), .offsets = offsets.MutableRef(), .position = position.MutableRef()},
      CudaStream());
  ops::PermuteRows({.x = x.Ref(), .position = position.Ref(), .y = rows.MutableRef()},
                   CudaStream());
  const Tensor places = position.To(kCpu);
  for (const int64_t i : {int64_t{0}, kTokens * kChosen / 2, kTokens * kChosen - 1}) {
    const int64_t r = places.data<int32_t>()[i], n = i / kChosen;
    EXPECT_TRUE(SameBits(rows.Slice(r, r + 1).To(kCpu), x.Slice(n, n + 1).To(kCpu))) << i;
  }
  // Weights that make 1 in all: every token comes back as it was.
  const Tensor w = OnDevice(Tensor::FromVector(
      [] {
        std::vector<float> values(static_cast<size_t>(kTokens * kChosen), 0.125F);
        for (size_t i = 0; i < values.size(); i += kChosen) values[i] = 0.375F;
        return values;
      }(),
      {kTokens, kChosen}));
  ops::UnpermuteRows(
      {.x = rows.Ref(), .position = position.Ref(), .w = w.Ref(), .y = back.MutableRef()},
      CudaStream());
  EXPECT_TRUE(SameBits(back.To(kCpu), x.To(kCpu)));
}

}  // namespace
}  // namespace lacuna
