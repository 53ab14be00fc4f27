#include "core/repeat_checker.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/content_hash.h"
#include "core/ops/elementwise.h"
#include "core/stream.h"

namespace lacuna {
namespace {

// y = a + b, then z = y + b; in pass `disturbed` an input of z is another one.
void Pass(RepeatChecker& checker, int64_t pass, int64_t disturbed) {
  const Tensor a = Tensor::FromVector<float>({1, 2, 3}, {3}),
               b = Tensor::FromVector<float>({4, 5, 6}, {3});
  Tensor y = Tensor::Empty({3}, DType::kF32), z = Tensor::Empty({3}, DType::kF32);
  Tensor a_now = a.Clone();
  if (pass == disturbed) a_now.mutable_data<float>()[2] += 1;
  const ObserveKernels observe(checker);
  ops::Add({.a = a.Ref(), .b = b.Ref(), .y = y.MutableRef()}, kCpuStream);
  ops::Add({.a = a_now.Ref(), .b = y.Ref(), .y = z.MutableRef()}, kCpuStream);
  ops::Add({.a = z.Ref(), .b = y.Ref(), .y = y.MutableRef()}, kCpuStream);
}

TEST(RepeatChecker, NamesTheFirstOutputThatDiffers) {
  RepeatChecker checker(kCpuStream);
  for (int64_t pass = 0; pass < 5; ++pass) {
    Pass(checker, pass, /*disturbed=*/3);
    EXPECT_EQ(checker.EndPass(), pass != 3) << pass;
  }
  EXPECT_EQ(checker.passes(), 5);
  EXPECT_EQ(checker.num_outputs(), 3);
  ASSERT_EQ(checker.differences().size(), 1u);
  const RepeatChecker::Difference& d = checker.differences()[0];
  EXPECT_EQ(d.pass, 3);
  EXPECT_EQ(d.call, 1);
  EXPECT_EQ(d.kernel, "add");
  EXPECT_EQ(d.output, "y");
  EXPECT_EQ(d.shape, Shape({3}));
  EXPECT_EQ(d.outputs, 2);
}

TEST(RepeatChecker, ReportsAPassOfOtherCalls) {
  RepeatChecker checker(kCpuStream);
  Pass(checker, 0, -1);
  EXPECT_TRUE(checker.EndPass());
  Pass(checker, 1, -1);
  Pass(checker, 1, -1);
  EXPECT_FALSE(checker.EndPass());
  ASSERT_EQ(checker.differences().size(), 1u);
  EXPECT_EQ(checker.differences()[0].call, 3);
  EXPECT_EQ(checker.differences()[0].outputs, 3);
}

uint64_t HashOf(const Tensor& x) {
  uint64_t sum = 0;
  AddContentHash(x.Ref(), &sum, kCpuStream);
  return sum;
}

TEST(ContentHash, EveryByteAndPlaceCounts) {
  Tensor x = Tensor::Zeros({21}, DType::kU8);
  std::vector<uint64_t> seen = {HashOf(x)};
  for (int64_t i = 0; i < 21; ++i) {
    x.Zero();
    static_cast<uint8_t*>(x.MutableRef().data)[i] = 1;
    seen.push_back(HashOf(x));
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  // A sum: swapping words of other values changes it, adding tensors one after the other does not
  // depend on their order.
  const Tensor a = Tensor::FromVector<double>({1, 2}, {2}),
               b = Tensor::FromVector<double>({2, 1}, {2});
  EXPECT_NE(HashOf(a), HashOf(b));
}

}  // namespace
}  // namespace lacuna
