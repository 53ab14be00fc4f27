// Sorting rows by expert and moving them on CUDA: against the CPU's kernels, and what never may
// happen to memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "moe/permute.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;
using test::OnDevice;
using test::RandomIds;
using test::RandomTensor;
using test::SameBits;

struct Sorted {
  Tensor offsets, position;
};
Sorted Sort(const Tensor& ids, int64_t experts) {
  Sorted s{Tensor::Empty({experts + 1}, DType::kI64, ids.device()), Tensor::EmptyLike(ids)};
  ops::SortByExpert(
      {.ids = ids.Ref(), .offsets = s.offsets.MutableRef(), .position = s.position.MutableRef()},
      ComputeStream(ids.device()));
  return s;
}

TEST(CudaSortByExpert, EqualsTheCpu) {
  struct Case {
    int64_t tokens, chosen, experts;
  };
  // None, one, less than a warp, a block and its edge, many blocks.
  for (const Case& c : {Case{0, 2, 3}, Case{1, 1, 1}, Case{5, 3, 72}, Case{512, 2, 72},
                        Case{513, 2, 9}, Case{1000, 6, 1024}, Case{40000, 6, 72}}) {
    SCOPED_TRACE(testing::Message() << c.tokens << " x " << c.chosen << ", " << c.experts);
    const test::CudaParity parity;
    Sort(OnDevice(RandomIds({c.tokens, c.chosen}, static_cast<int32_t>(c.experts), 1)), c.experts);
    // All in the last expert.
    Sort(OnDevice(Tensor::FromVector(std::vector<int32_t>(static_cast<size_t>(c.tokens * c.chosen),
                                                          static_cast<int32_t>(c.experts - 1)),
                                     {c.tokens, c.chosen})),
         c.experts);
  }
}

TEST(CudaSortByExpert, IdsOutsideGoToTheNearestExpert) {
  std::vector<int32_t> ids(3000);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i % 7) - 2;  // -2 .. 4
  ids[10] = std::numeric_limits<int32_t>::min();
  ids[2999] = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> clamped = ids;
  for (int32_t& id : clamped) id = std::clamp(id, 0, 2);
  const Sorted ours = Sort(OnDevice(Tensor::FromVector(ids, {1500, 2})), 3),
               expected = Sort(Tensor::FromVector(clamped, {1500, 2}), 3);
  EXPECT_TRUE(SameBits(ours.offsets.To(kCpu), expected.offsets));
  EXPECT_TRUE(SameBits(ours.position.To(kCpu), expected.position));
}

TEST(CudaSortByExpert, MoreExpertsThanTheKernelsHoldAreRefused) {
  EXPECT_THROW(Sort(OnDevice(RandomIds({4, 2}, 1025, 1)), 1025), Error);
}

// `shape` elements that start `shift` elements into their storage.
Tensor Shifted(Shape shape, DType dtype, uint64_t seed, int64_t shift) {
  const int64_t n = NumElements(shape);
  return OnDevice(RandomTensor({n + shift}, dtype, seed)).View(shift, std::move(shape));
}

// There, and back with and without weights; returns all outputs.
std::vector<Tensor> Move(int64_t tokens, int64_t chosen, int64_t columns, DType dtype,
                         int64_t shift) {
  const Stream stream = CudaStream();
  const int64_t experts = 9;
  const Sorted sorted =
      Sort(OnDevice(RandomIds({tokens, chosen}, static_cast<int32_t>(experts), 1)), experts);
  const Tensor x = Shifted({tokens, columns}, dtype, 2, shift),
               routed = Shifted({tokens * chosen, columns}, dtype, 3, shift),
               w = OnDevice(RandomTensor({tokens, chosen}, DType::kF32, 4));
  const TensorRef position = sorted.position.Ref();
  Tensor there = Shifted({tokens * chosen, columns}, dtype, 5, shift);
  ops::PermuteRows({.x = x.Ref(), .position = position, .y = there.MutableRef()}, stream);
  std::vector<Tensor> outputs = {there.To(kCpu)};
  for (const TensorRef& weights : {TensorRef{}, w.Ref()}) {
    Tensor back = Shifted({tokens, columns}, dtype, 6, shift);
    ops::UnpermuteRows(
        {.x = routed.Ref(), .position = position, .w = weights, .y = back.MutableRef()}, stream);
    outputs.push_back(back.To(kCpu));
  }
  return outputs;
}

TEST(CudaPermute, EqualsTheCpu) {
  struct Case {
    int64_t tokens, chosen, columns, shift;
  };
  // No token; one element; odd and even widths; more choices than are read at once; rows that do
  // not start at 16 bytes; a training step's width.
  for (const Case& c : {Case{0, 2, 8, 0}, Case{1, 1, 1, 0}, Case{5, 3, 7, 0}, Case{70, 2, 24, 0},
                        Case{9, 8, 8, 0}, Case{33, 9, 40, 0}, Case{20, 17, 130, 0},
                        Case{12, 3, 64, 1}, Case{3, 2, 5000, 0}, Case{512, 6, 2560, 0}}) {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(testing::Message()
                   << c.tokens << " x " << c.chosen << " x " << c.columns << " " << NameOf(dtype));
      const test::CudaParity parity;
      Move(c.tokens, c.chosen, c.columns, dtype, c.shift);
    }
  }
}

TEST(CudaPermute, TheSameBitsTwice) {
  const std::vector<Tensor> a = Move(300, 6, 256, DType::kBF16, 0),
                            b = Move(300, 6, 256, DType::kBF16, 0);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(SameBits(a[i], b[i])) << i;
}

// Rows are copied, not computed: a NaN's payload and a negative zero come through.
TEST(CudaPermute, RowsKeepTheirBits) {
  Tensor x = RandomTensor({50, 16}, DType::kBF16, 1);
  x.mutable_data<BFloat16>()[3].bits = 0x7FA1;
  x.mutable_data<BFloat16>()[5].bits = 0x8000;
  const Tensor ids = RandomIds({50, 3}, 4, 2);
  const auto permute = [&](Device device) {
    const Tensor in = x.To(device);
    const Sorted s = Sort(ids.To(device), 4);
    Tensor y = Tensor::Empty({150, 16}, DType::kBF16, device);
    ops::PermuteRows({.x = in.Ref(), .position = s.position.Ref(), .y = y.MutableRef()},
                     ComputeStream(device));
    return y.To(kCpu);
  };
  EXPECT_TRUE(SameBits(permute(CudaDevice()), permute(kCpu)));
}

}  // namespace
}  // namespace lacuna
