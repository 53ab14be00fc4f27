// Attention over ranges against a naive loop, in every dtype, with its edges; gradients by
// differences; packed bits.
#include "autograd/functions/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/parallel.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using Values = std::vector<double>;

// One softmax row after the other; `round` is applied to what an implementation stores.
template <class Round>
Values NaiveAttention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& ranges,
                      double scale, Round round) {
  const int64_t heads = q.dim(1), groups = k.dim(1), dk = q.dim(2), dv = v.dim(2);
  const Values qs = q.ToDoubles(), ks = k.ToDoubles(), vs = v.ToDoubles(), rs = ranges.ToDoubles();
  Values o(static_cast<size_t>(q.dim(0) * heads * dv), 0.0);
  for (int64_t n = 0; n < q.dim(0); ++n) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t g = h / (heads / groups);
      Values e;
      double sum = 0, top = -INFINITY;
      const auto begin = static_cast<int64_t>(rs[static_cast<size_t>(2 * n)]),
                 end = static_cast<int64_t>(rs[static_cast<size_t>(2 * n + 1)]);
      for (int64_t j = begin; j < end; ++j) {
        double s = 0;
        for (int64_t c = 0; c < dk; ++c)
          s += qs[static_cast<size_t>((n * heads + h) * dk + c)] *
               ks[static_cast<size_t>((j * groups + g) * dk + c)];
        e.push_back(scale * s);
        top = std::max(top, e.back());
      }
      for (double& x : e) sum += x = std::exp(x - top);
      for (int64_t c = 0; c < dv; ++c) {
        double out = 0;
        for (int64_t j = begin; j < end; ++j)
          out += round(e[static_cast<size_t>(j - begin)] / sum) *
                 vs[static_cast<size_t>((j * groups + g) * dv + c)];
        o[static_cast<size_t>((n * heads + h) * dv + c)] = round(out);
      }
    }
  }
  return o;
}

struct Case {
  std::vector<int32_t> cu;
  int64_t window, heads, groups, dk, dv;
};
const std::vector<Case> kCases = {
    {{0, 100}, 0, 4, 2, 12, 8},      {{0, 1, 70, 70, 203}, 0, 4, 1, 20, 9},
    {{0, 130, 131}, 17, 6, 3, 8, 8}, {{0, 65}, 1, 2, 2, 4, 16},
    {{0, 40, 200}, 64, 16, 1, 8, 4}, {{0, 300}, 1000, 1, 1, 5, 3},
};

TEST(Attention, EqualsNaive) {
  uint64_t seed = 0;
  for (const Case& c : kCases) {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
      SCOPED_TRACE(std::to_string(seed) + " " + NameOf(dtype));
      const int64_t n = c.cu.back();
      const Tensor q = test::RandomTensor({n, c.heads, c.dk}, dtype, ++seed),
                   k = test::RandomTensor({n, c.groups, c.dk}, dtype, ++seed);
      const Tensor v = test::RandomTensor({n, c.groups, c.dv}, dtype, ++seed);
      const AttentionRanges ranges = CausalRanges(PackedSequences(c.cu), c.window);
      Tape tape(Tape::Mode::kInference);
      const double scale = 1 / std::sqrt(static_cast<double>(c.dk));
      const Tensor o =
          AttentionOverRanges(tape, Variable(q), Variable(k), Variable(v), ranges, scale).value();
      const Values exact =
          NaiveAttention(q, k, v, ranges.ranges, scale, [](double x) { return x; });
      if (dtype == DType::kF64) {
        EXPECT_TRUE(test::Close(o, exact, test::Tolerance(dtype)));
        continue;
      }
      const Values naive = NaiveAttention(q, k, v, ranges.ranges, scale, [dtype](double x) {
        const float narrow = static_cast<float>(x);
        return static_cast<double>(dtype == DType::kF32 ? narrow
                                                        : static_cast<float>(BFloat16(narrow)));
      });
      EXPECT_TRUE(test::WithinNaiveError(o, naive, exact, 2));
    }
  }
}

TEST(Attention, GradCheck) {
  uint64_t seed = 500;
  for (const Case& c : kCases) {
    const int64_t n = c.cu.back();
    const AttentionRanges ranges = CausalRanges(PackedSequences(c.cu), c.window);
    EXPECT_TRUE(test::GradCheck(
        [&](Tape& t, const std::vector<Variable>& in) {
          return std::vector<Variable>{AttentionOverRanges(t, in[0], in[1], in[2], ranges, 0.3)};
        },
        {test::RandomTensor({n, c.heads, c.dk}, DType::kF64, ++seed),
         test::RandomTensor({n, c.groups, c.dk}, DType::kF64, ++seed),
         test::RandomTensor({n, c.groups, c.dv}, DType::kF64, ++seed)}));
  }
}

// Rows without keys give 0, lse -inf and no gradients; keys nobody sees get none.
TEST(Attention, EmptyRanges) {
  const AttentionRanges ranges{Tensor::FromVector(std::vector<int32_t>{0, 0, 0, 0, 0, 2}, {3, 2}),
                               Tensor::FromVector(std::vector<int32_t>{0, 3}, {2}),
                               Tensor::FromVector(std::vector<int32_t>{0, 3}, {2})};
  Tape tape;
  const Variable q = tape.Leaf(test::RandomTensor({3, 2, 4}, DType::kF32, 1)),
                 k = tape.Leaf(test::RandomTensor({3, 1, 4}, DType::kF32, 2));
  const Variable v = tape.Leaf(test::RandomTensor({3, 1, 4}, DType::kF32, 3));
  Tensor lse;
  const Variable o = AttentionOverRanges(tape, q, k, v, ranges, 0.5, &lse);
  tape.Backward({{o, test::RandomTensor({3, 2, 4}, DType::kF32, 4)}});
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(o.value().ToDoubles()[i], 0.0);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(lse.ToDoubles()[i], -INFINITY);
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(tape.Grad(q).ToDoubles()[i], 0.0);
  for (size_t i = 8; i < 12; ++i)
    EXPECT_EQ(tape.Grad(k).ToDoubles()[i], 0.0) << "the key that no query sees";
}

TEST(Attention, PackedDocumentsAreBitwiseAlone) {
  const std::vector<int32_t> cu = {0, 150, 151, 360};
  const Tensor q = test::RandomTensor({360, 4, 12}, DType::kF32, 1),
               k = test::RandomTensor({360, 2, 12}, DType::kF32, 2);
  const Tensor v = test::RandomTensor({360, 2, 8}, DType::kF32, 3),
               d_o = test::RandomTensor({360, 4, 8}, DType::kF32, 4);
  const auto run = [&](int64_t begin, int64_t end, const std::vector<int32_t>& documents) {
    Tape tape;
    const Variable a = tape.Leaf(q.Slice(begin, end)), b = tape.Leaf(k.Slice(begin, end)),
                   c = tape.Leaf(v.Slice(begin, end));
    const Variable o =
        AttentionOverRanges(tape, a, b, c, CausalRanges(PackedSequences(documents), 50), 0.3);
    tape.Backward({{o, d_o.Slice(begin, end)}});
    return std::vector<Tensor>{o.value(), tape.Grad(a), tape.Grad(b), tape.Grad(c)};
  };
  const auto together = run(0, 360, cu);
  const int threads = NumThreads();
  SetNumThreads(1);
  for (size_t d = 0; d + 1 < cu.size(); ++d) {
    const auto alone = run(cu[d], cu[d + 1], {0, cu[d + 1] - cu[d]});
    for (size_t i = 0; i < 4; ++i)
      EXPECT_TRUE(test::SameBits(together[i].Slice(cu[d], cu[d + 1]), alone[i]))
          << "document " << d << " tensor " << i;
  }
  SetNumThreads(threads);
}

}  // namespace
}  // namespace lacuna
