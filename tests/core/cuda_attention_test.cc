// Attention over ranges on CUDA against the CPU in f64, over its edges; packed documents and
// repeated runs give the same bits.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/functions/attention.h"
#include "core/cuda/random_delay.h"
#include "core/cuda/runtime.h"
#include "core/ops/attention.h"
#include "core/ops/cuda/hopper/attention.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

// Keys of every document: all tokens, or one for each complete block of `block` tokens, `stride`
// apart, seen from a block's last token on.
struct Case {
  std::vector<int32_t> lengths;
  int64_t window, block, stride, heads, groups, dk, dv;
};

Case Causal(std::vector<int32_t> lengths, int64_t window, int64_t heads, int64_t groups, int64_t dk,
            int64_t dv) {
  return {std::move(lengths), window, 0, 0, heads, groups, dk, dv};
}
Case Compressed(std::vector<int32_t> lengths, int64_t heads, int64_t groups, int64_t dk,
                int64_t dv) {
  return {std::move(lengths), 0, 32, 16, heads, groups, dk, dv};
}

AttentionRanges RangesOf(const Case& c) {
  std::vector<int32_t> cu = {0}, cu_keys = {0}, ranges;
  for (const int32_t length : c.lengths) {
    for (int64_t t = 0; c.block > 0 && t < length; ++t) {
      const int64_t seen = t + 1 < c.block ? 0 : (t + 1 - c.block) / c.stride + 1;
      ranges.push_back(cu_keys.back());
      ranges.push_back(cu_keys.back() + static_cast<int32_t>(seen));
    }
    cu_keys.push_back(c.block == 0 || length == 0 ? cu_keys.back() : ranges.back());
    cu.push_back(cu.back() + length);
  }
  if (c.block == 0) return CausalRanges(PackedSequences(cu).To(CudaDevice()), c.window);
  const auto there = [](const std::vector<int32_t>& values, Shape shape) {
    return Tensor::FromVector(values, std::move(shape)).To(CudaDevice());
  };
  const auto documents = static_cast<int64_t>(cu.size());
  return {there(ranges, {cu.back(), 2}), there(cu, {documents}), there(cu_keys, {documents})};
}

struct Inputs {
  Tensor q, k, v, d_o;
};

Inputs RandomInputs(const Case& c, const AttentionRanges& ranges, DType dtype, uint64_t seed) {
  const int64_t n = ranges.ranges.dim(0);
  const auto m = static_cast<int64_t>(ranges.cu_keys.ToDoubles().back());
  const auto make = [&](Shape shape) {
    return test::RandomTensor(std::move(shape), dtype, ++seed).To(CudaDevice());
  };
  return {make({n, c.heads, c.dk}), make({m, c.groups, c.dk}), make({m, c.groups, c.dv}),
          make({n, c.heads, c.dv})};
}

AttentionFwdArgs ForwardOf(const Inputs& in, const AttentionRanges& ranges, Tensor& o,
                           Tensor& lse) {
  return {.q = in.q.Ref(),
          .k = in.k.Ref(),
          .v = in.v.Ref(),
          .ranges = ranges.ranges.Ref(),
          .cu_queries = ranges.cu_queries.Ref(),
          .cu_keys = ranges.cu_keys.Ref(),
          .o = o.MutableRef(),
          .lse = lse.MutableRef(),
          .scale = 1 / std::sqrt(static_cast<double>(in.q.dim(2)))};
}

// o, lse, dq, dk, dv.
std::vector<Tensor> Attend(const Inputs& in, const AttentionRanges& ranges, bool backward = true) {
  const double scale = 1 / std::sqrt(static_cast<double>(in.q.dim(2)));
  Tensor o = Tensor::EmptyLike(in.d_o);
  Tensor lse = Tensor::Empty({in.q.dim(0), in.q.dim(1)}, DType::kF32, CudaDevice());
  ops::AttentionFwd(ForwardOf(in, ranges, o, lse), test::CudaStream());
  if (!backward) return {o, lse};
  Tensor dq = Tensor::EmptyLike(in.q), dk = Tensor::EmptyLike(in.k), dv = Tensor::EmptyLike(in.v);
  ops::AttentionBwd({.q = in.q.Ref(),
                     .k = in.k.Ref(),
                     .v = in.v.Ref(),
                     .ranges = ranges.ranges.Ref(),
                     .cu_queries = ranges.cu_queries.Ref(),
                     .cu_keys = ranges.cu_keys.Ref(),
                     .o = o.Ref(),
                     .lse = lse.Ref(),
                     .d_o = in.d_o.Ref(),
                     .dq = dq.MutableRef(),
                     .dk = dk.MutableRef(),
                     .dv = dv.MutableRef(),
                     .scale = scale},
                    test::CudaStream());
  return {o, lse, dq, dk, dv};
}

const std::vector<Case> kCases = {
    Causal({100}, 0, 4, 2, 12, 8),
    Causal({1, 69, 0, 133}, 0, 4, 1, 20, 9),  // odd Dv, an empty document
    Causal({130, 1}, 17, 6, 3, 8, 8),
    Causal({65}, 2, 2, 2, 4, 16),
    Causal({40, 160}, 64, 16, 1, 8, 4),
    Causal({300}, 1000, 3, 1, 5, 3),
    Causal({70, 129}, 33, 80, 1, 16, 16),  // more heads in a group than a tile has rows
    Causal({7, 1, 190}, 0, 8, 2, 192, 128),
    Causal({150}, 0, 5, 5, 256, 256),
    Causal({90, 64}, 50, 4, 2, 64, 64),
    Compressed({31}, 4, 2, 16, 8),  // no keys at all
    Compressed({32, 5, 200}, 8, 2, 64, 48),
    Compressed({1, 700, 47, 33}, 16, 4, 192, 128),
};

class CudaAttention : public testing::TestWithParam<DType> {};

TEST_P(CudaAttention, EqualsCpu) {
  uint64_t seed = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE("case " + std::to_string(&c - kCases.data()));
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, GetParam(), seed += 10);
    test::CudaParity parity;
    Attend(in, ranges);
  }
}

TEST_P(CudaAttention, EqualsCpuAtTrainingWidth) {
  for (const Case& c : {Causal({1500}, 512, 16, 2, 192, 128), Causal({800}, 0, 16, 1, 192, 128),
                        Compressed({2048}, 16, 1, 192, 128)}) {
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, GetParam(), 900);
    test::CudaParity parity;
    Attend(in, ranges);
  }
}

// One query that continues a cache.
TEST_P(CudaAttention, DecodeStep) {
  for (const int32_t keys : {1, 64, 1000}) {
    const auto ints = [](std::vector<int32_t> values, Shape shape) {
      return Tensor::FromVector(values, std::move(shape)).To(CudaDevice());
    };
    const AttentionRanges ranges{ints({0, keys}, {1, 2}), ints({0, 1}, {2}), ints({0, keys}, {2})};
    const Inputs in = RandomInputs(Causal({}, 0, 16, 2, 192, 128), ranges, GetParam(), 300);
    test::CudaParity parity;
    Attend(in, ranges, /*backward=*/false);
  }
}

// Rows without keys give 0, lse -inf and no gradients; keys nobody sees get none.
TEST_P(CudaAttention, EmptyRanges) {
  const auto ints = [](std::vector<int32_t> values, Shape shape) {
    return Tensor::FromVector(values, std::move(shape)).To(CudaDevice());
  };
  const AttentionRanges ranges{ints({0, 0, 0, 0, 0, 2}, {3, 2}), ints({0, 3}, {2}),
                               ints({0, 3}, {2})};
  const Inputs in = RandomInputs(Causal({}, 0, 2, 1, 8, 8), ranges, GetParam(), 400);
  test::CudaParity parity;
  const std::vector<Tensor> out = Attend(in, ranges);
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(out[0].ToDoubles()[i], 0.0);
    EXPECT_EQ(out[2].ToDoubles()[i], 0.0);
  }
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(out[1].ToDoubles()[i], -INFINITY);
  for (size_t i = 16; i < 24; ++i) EXPECT_EQ(out[3].ToDoubles()[i], 0.0);
}

TEST_P(CudaAttention, PackedDocumentsAreBitwiseAloneAndRunsAlike) {
  for (const Case& c : {Causal({150, 1, 209, 64}, 50, 4, 2, 24, 16),
                        Compressed({150, 1, 609, 64, 31}, 6, 2, 64, 48),
                        Causal({150, 1, 309, 64}, 50, 16, 1, 192, 128),
                        Compressed({150, 1, 2609, 64, 31}, 8, 2, 192, 128)}) {
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, GetParam(), 500);
    const std::vector<Tensor> together = Attend(in, ranges), again = Attend(in, ranges);
    for (size_t i = 0; i < together.size(); ++i)
      EXPECT_TRUE(test::SameBits(together[i].To(kCpu), again[i].To(kCpu))) << "tensor " << i;
    const std::vector<double> cu = ranges.cu_queries.ToDoubles(),
                              cu_keys = ranges.cu_keys.ToDoubles();
    for (size_t d = 0; d < c.lengths.size(); ++d) {
      const auto begin = static_cast<int64_t>(cu[d]), end = static_cast<int64_t>(cu[d + 1]),
                 key = static_cast<int64_t>(cu_keys[d]),
                 key_end = static_cast<int64_t>(cu_keys[d + 1]);
      Case alone_case = c;
      alone_case.lengths = {c.lengths[d]};
      const std::vector<Tensor> alone = Attend({in.q.Slice(begin, end), in.k.Slice(key, key_end),
                                                in.v.Slice(key, key_end), in.d_o.Slice(begin, end)},
                                               RangesOf(alone_case));
      for (size_t i = 0; i < alone.size(); ++i) {
        const Tensor part = i < 3 ? together[i].Slice(begin, end) : together[i].Slice(key, key_end);
        EXPECT_TRUE(test::SameBits(part.To(kCpu), alone[i].To(kCpu)))
            << "document " << d << " tensor " << i;
      }
    }
  }
}

// What the Hopper kernel takes (other cards: the portable one): all its widths, groups of 1 to 64
// heads, tiles that end at documents, windows, rows without keys.
const std::vector<Case> kHopperCases = {
    Causal({7, 1, 190, 0, 333}, 0, 32, 2, 192, 128),
    Causal({500}, 0, 3, 3, 192, 128),
    Causal({129, 700}, 100, 8, 2, 192, 128),
    Causal({77, 400}, 90, 4, 2, 128, 128),
    Causal({400, 3}, 0, 32, 1, 128, 128),
    Causal({333}, 2, 64, 1, 64, 64),
    Causal({31, 600}, 0, 8, 1, 64, 64),
    Compressed({31, 1, 700, 47, 33}, 32, 2, 192, 128),
    Compressed({2500}, 16, 1, 128, 128),
};

TEST(CudaHopperAttention, EqualsCpu) {
  uint64_t seed = 2000;
  for (const Case& c : kHopperCases) {
    SCOPED_TRACE("case " + std::to_string(&c - kHopperCases.data()));
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, DType::kBF16, seed += 10);
    Tensor o = Tensor::EmptyLike(in.d_o);
    Tensor lse = Tensor::Empty({in.q.dim(0), c.heads}, DType::kF32, CudaDevice());
    EXPECT_EQ(cuda::hopper::Supports(ForwardOf(in, ranges, o, lse), test::CudaStream()),
              cuda::ComputeMajor(test::CudaStream()) == 9);
    test::CudaParity parity;
    Attend(in, ranges, /*backward=*/false);
  }
}

// Groups of 2 to 64 heads, parts, tiles that few tokens share.
const std::vector<Case> kHopperBackwardCases = {
    Causal({129, 700}, 100, 8, 2, 192, 128),           Causal({77, 400}, 90, 4, 2, 128, 128),
    Causal({310, 65, 1}, 70, 64, 1, 192, 128),         Causal({640}, 200, 2, 2, 128, 128),
    Compressed({31, 1, 700, 47, 33}, 32, 2, 192, 128),
};

TEST(CudaHopperAttention, BackwardEqualsCpuWithTheSameBitsWhenDelayed) {
  uint64_t seed = 4000;
  for (const Case& c : kHopperBackwardCases) {
    SCOPED_TRACE("case " + std::to_string(&c - kHopperBackwardCases.data()));
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, DType::kBF16, seed += 10);
    std::vector<Tensor> first;
    {
      test::CudaParity parity;
      first = Attend(in, ranges);
    }
    for (uint32_t delays = 1; delays <= 8; ++delays) {
      cuda::hopper::SetRandomDelays(delays);
      const std::vector<Tensor> again = Attend(in, ranges);
      cuda::hopper::SetRandomDelays(0);
      for (size_t i = 0; i < first.size(); ++i)
        ASSERT_TRUE(test::SameBits(first[i].To(kCpu), again[i].To(kCpu))) << "seed " << delays;
    }
  }
}

// Scores far apart: sums shrink again and again while the largest score rises.
TEST(CudaHopperAttention, LargeScoresEqualCpu) {
  const Case c = Causal({600}, 0, 16, 1, 192, 128);
  const AttentionRanges ranges = RangesOf(c);
  Inputs in = RandomInputs(c, ranges, DType::kBF16, 2500);
  std::vector<float> q;
  for (const double x : in.q.ToDoubles()) q.push_back(static_cast<float>(16 * x));
  in.q = Tensor::FromVector(q, in.q.shape()).To(DType::kBF16).To(CudaDevice());
  test::CudaParity parity;
  Attend(in, ranges, /*backward=*/false);
}

// Warps wait at random places: what is right only by luck of timing shows.
TEST(CudaHopperAttention, TheSameBitsWithRandomDelays) {
  for (const Case& c : {kHopperCases[0], kHopperCases[2], kHopperCases[7]}) {
    const AttentionRanges ranges = RangesOf(c);
    const Inputs in = RandomInputs(c, ranges, DType::kBF16, 3000);
    const std::vector<Tensor> first = Attend(in, ranges, /*backward=*/false);
    for (uint32_t seed = 1; seed <= 20; ++seed) {
      cuda::hopper::SetRandomDelays(seed);
      const std::vector<Tensor> again = Attend(in, ranges, /*backward=*/false);
      cuda::hopper::SetRandomDelays(0);
      for (size_t i = 0; i < first.size(); ++i)
        ASSERT_TRUE(test::SameBits(first[i].To(kCpu), again[i].To(kCpu))) << "seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaAttention, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace lacuna
