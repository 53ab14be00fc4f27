// How a batch of documents is cut for attention through cuDNN: what holds for any batch, and the
// numbers of some.
#include "core/ops/attention_split.h"

#include <gtest/gtest.h>

#include <random>

#include "core/packed_sequences.h"

namespace lacuna {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

LengthClassCounts CountsOf(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> cu = {0};
  for (const int32_t length : lengths) cu.push_back(cu.back() + length);
  return PackedSequences(cu).length_classes();
}

SplitSizes SizesOf(const std::vector<int32_t>& lengths, int64_t heads, int64_t groups) {
  SplitSizes sizes{.heads = heads, .groups = groups, .bound_memory = true};
  for (const int32_t length : lengths) {
    sizes.rows += length;
    sizes.max_length = std::max<int64_t>(sizes.max_length, length);
  }
  return sizes;
}

TEST(LengthClasses, BoundsAndEmptyDocuments) {
  EXPECT_EQ(LengthClassOf(1), 0);
  EXPECT_EQ(LengthClassOf(512), 0);
  EXPECT_EQ(LengthClassOf(513), 1);
  EXPECT_EQ(LengthClassOf(32768), 3);
  EXPECT_EQ(LengthClassOf(32769), 4);
  const LengthClassCounts counts = CountsOf({0, 1, 512, 513, 0, 2048, 9000});
  EXPECT_EQ(std::vector<int32_t>(counts.of_class, counts.of_class + kLengthClasses),
            (std::vector<int32_t>{2, 2, 0, 1, 0}));
}

// Every document has a slot that holds it, and no run takes more memory than there is.
TEST(SplitByLength, AnyBatchFits) {
  std::mt19937 random(3);
  const auto below = [&](int64_t n) {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(n));
  };
  for (int i = 0; i < 2000; ++i) {
    std::vector<int32_t> lengths;
    for (int d = 1 + below(60); d > 0; --d) lengths.push_back(below(int64_t{2} << below(14)));
    lengths.push_back(2);
    const int64_t groups = int64_t{1} << below(4), heads = groups << below(5);
    const SplitSizes sizes = SizesOf(lengths, heads, groups);
    const LengthClassCounts counts = CountsOf(lengths);
    int64_t documents = 0;
    for (const ClassSplit& split : SplitByLength(counts, sizes)) {
      documents += split.documents;
      EXPECT_EQ(split.length % 128, 0);
      for (const int32_t length : lengths) {
        if (length > split.longer_than && length <= split.at_most) {
          EXPECT_LE(length, split.length);
        }
      }
      EXPECT_GE(split.runs() * split.slots, split.documents);
      EXPECT_EQ(groups % split.turns, 0);
      EXPECT_EQ(split.bounded, DeterministicTurns(1, heads, groups, split.length) > 0);
      if (sizes.max_length <= LongestDeterministic(heads, groups)) {
        EXPECT_TRUE(split.bounded);
      }
      if (!split.bounded) continue;
      EXPECT_LE(2 * split.slots * heads / split.turns * split.length * split.length, 4 * kGiB);
    }
    int64_t expected = 0;
    for (const int32_t length : lengths) expected += length > 0 ? 1 : 0;
    EXPECT_EQ(documents, expected);
  }
}

// Lengths and slots do not depend on the documents, as long as the longest can be deterministic.
TEST(SplitByLength, BatchesOfARunShareSlots) {
  const SplitSizes a = SizesOf({8000, 100, 92}, 64, 4), b = SizesOf({3000, 3000, 500, 1692}, 64, 4);
  const auto one = SplitByLength(CountsOf({8000, 100, 92}), a),
             other = SplitByLength(CountsOf({3000, 3000, 500, 1692}), b);
  ASSERT_EQ(one.size(), 2u);
  ASSERT_EQ(other.size(), 3u);
  for (const auto& [x, y] : {std::pair{one[0], other[0]}, {one[1], other[2]}}) {
    EXPECT_EQ(x.length, y.length);
    EXPECT_EQ(x.slots, y.slots);
    EXPECT_EQ(x.turns, y.turns);
  }
  EXPECT_EQ(one[0].length, 512);
  EXPECT_EQ(one[0].slots, 32);
  EXPECT_EQ(one[0].turns, 1);
  EXPECT_EQ(one[1].length, 8192);
  EXPECT_EQ(one[1].slots, 1);
  EXPECT_EQ(one[1].turns, 2);
  EXPECT_EQ(other[2].runs(), 2);
}

TEST(SplitByLength, LongestDeterministicLength) {
  EXPECT_EQ(LongestDeterministic(64, 4), 11520);
  EXPECT_EQ(LongestDeterministic(16, 1), 11520);
  EXPECT_EQ(LongestDeterministic(32, 1), 8192);
  const std::vector<int32_t> lengths = {11520, 9000};
  const auto splits = SplitByLength(CountsOf(lengths), SizesOf(lengths, 64, 4));
  ASSERT_EQ(splits.size(), 1u);
  EXPECT_EQ(splits[0].length, 11520);
  EXPECT_TRUE(splits[0].bounded);
  const std::vector<int32_t> longer = {11521, 300};
  const auto mixed = SplitByLength(CountsOf(longer), SizesOf(longer, 64, 4));
  ASSERT_EQ(mixed.size(), 2u);
  EXPECT_TRUE(mixed[0].bounded);
  EXPECT_FALSE(mixed[1].bounded);
  EXPECT_EQ(mixed[1].turns, 1);
}

// Without the bound all documents of a class go in few runs of one turn.
TEST(SplitByLength, UnboundedTakesOneTurn) {
  const std::vector<int32_t> lengths = {20000, 20000, 9000, 40000};
  SplitSizes sizes = SizesOf(lengths, 64, 4);
  sizes.bound_memory = false;
  for (const ClassSplit& split : SplitByLength(CountsOf(lengths), sizes)) {
    EXPECT_EQ(split.turns, 1);
    EXPECT_EQ(split.runs(), 1);
  }
}

}  // namespace
}  // namespace lacuna
