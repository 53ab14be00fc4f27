// Causal attention through cuDNN against the CPU in f64, and against our own kernels at a size that
// the CPU would take too long for.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "autograd/functions/attention.h"
#include "core/ops/cuda/attention_cudnn.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

struct Case {
  std::vector<int32_t> lengths;
  int64_t window, heads, groups, dk, dv;
  bool deterministic = true;
};

// A call with its own tensors, on the device.
class Attention {
 public:
  Attention(const Case& c, DType dtype, uint64_t seed)
      : ranges_(RangesOf(c)),
        scale_(1 / std::sqrt(static_cast<double>(c.dk))),
        deterministic_(c.deterministic) {
    const int64_t n = ranges_.ranges.dim(0);
    const auto make = [&](Shape shape) {
      return test::RandomTensor(std::move(shape), dtype, ++seed).To(CudaDevice());
    };
    q_ = make({n, c.heads, c.dk});
    k_ = make({n, c.groups, c.dk});
    v_ = make({n, c.groups, c.dv});
    d_o_ = make({n, c.heads, c.dv});
    o_ = Tensor::EmptyLike(d_o_);
    lse_ = Tensor::Empty({n, c.heads}, DType::kF32, CudaDevice());
    dq_ = Tensor::EmptyLike(q_);
    dk_ = Tensor::EmptyLike(k_);
    dv_ = Tensor::EmptyLike(v_);
  }

  AttentionFwdArgs Forward() {
    return {.q = q_.Ref(),
            .k = k_.Ref(),
            .v = v_.Ref(),
            .ranges = ranges_.ranges.Ref(),
            .cu_queries = ranges_.cu_queries.Ref(),
            .cu_keys = ranges_.cu_keys.Ref(),
            .o = o_.MutableRef(),
            .lse = lse_.MutableRef(),
            .scale = scale_,
            .causal = ranges_.causal};
  }
  AttentionBwdArgs Backward() {
    return {.q = q_.Ref(),
            .k = k_.Ref(),
            .v = v_.Ref(),
            .ranges = ranges_.ranges.Ref(),
            .cu_queries = ranges_.cu_queries.Ref(),
            .cu_keys = ranges_.cu_keys.Ref(),
            .o = o_.Ref(),
            .lse = lse_.Ref(),
            .d_o = d_o_.Ref(),
            .dq = dq_.MutableRef(),
            .dk = dk_.MutableRef(),
            .dv = dv_.MutableRef(),
            .scale = scale_,
            .causal = ranges_.causal,
            .deterministic = deterministic_};
  }

  // o, lse, dq, dk, dv on the CPU.
  std::vector<Tensor> Run() {
    ops::AttentionFwd(Forward(), test::CudaStream());
    return RunBackward();
  }
  // The same with the forward by cuDNN, also where an own kernel is preferred.
  std::vector<Tensor> RunCudnn() {
    EXPECT_TRUE(cuda::CudnnAttentionFwd(Forward(), test::CudaStream()));
    return RunBackward();
  }
  std::vector<Tensor> RunBackward() {
    ops::AttentionBwd(Backward(), test::CudaStream());
    return {o_.To(kCpu), lse_.To(kCpu), dq_.To(kCpu), dk_.To(kCpu), dv_.To(kCpu)};
  }
  // The same by our own kernels, which take any ranges.
  std::vector<Tensor> RunOwn() {
    const CausalRows causal = std::exchange(ranges_.causal, {});
    std::vector<Tensor> out = Run();
    ranges_.causal = causal;
    return out;
  }

  cuda::CudnnPlan ForwardPlan() { return cuda::CudnnPlanOf(Forward(), test::CudaStream()); }
  cuda::CudnnPlan BackwardPlan() { return cuda::CudnnPlanOf(Backward(), test::CudaStream()); }

 private:
  static AttentionRanges RangesOf(const Case& c) {
    std::vector<int32_t> cu = {0};
    for (const int32_t length : c.lengths) cu.push_back(cu.back() + length);
    return CausalRanges(PackedSequences(cu).To(CudaDevice()), c.window);
  }

  AttentionRanges ranges_;
  double scale_;
  bool deterministic_;
  Tensor q_, k_, v_, d_o_, o_, lse_, dq_, dk_, dv_;
};

const std::vector<Case> kCases = {
    // One document, with and without whole tiles.
    {{256}, 0, 8, 2, 64, 64},
    {{1024}, 0, 16, 4, 192, 128},
    {{1100}, 0, 16, 1, 192, 128},
    {{2}, 0, 4, 1, 128, 128},
    {{129}, 0, 6, 6, 128, 128},
    // Packed documents: odd lengths, a token, none.
    {{300, 1, 77}, 0, 16, 4, 64, 64},
    {{1, 69, 0, 133}, 0, 16, 1, 192, 128},
    {{128, 256}, 0, 8, 2, 192, 128},
    {{517, 3, 64, 1, 1, 200, 31}, 0, 8, 2, 128, 128},
    {{0, 5, 0}, 0, 4, 4, 64, 64},
    {{1000, 400}, 0, 16, 1, 192, 128},
    // Two length classes in turns, neither of neighbours.
    {{700, 40, 1, 600, 0, 512, 513}, 0, 16, 4, 64, 64},
    {{3, 900, 2, 2, 800, 1}, 0, 8, 2, 192, 128},
};

// `count` lengths from 0 on, most of them short, with all remainders of a tile among them.
std::vector<int32_t> ManyLengths(int count) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < count; ++i) lengths.push_back(i % 9 == 8 ? 560 + i : i * 7 % 40);
  return lengths;
}

double RelativeError(const Tensor& x, const Tensor& exact) {
  const std::vector<double> a = x.ToDoubles(), b = exact.ToDoubles();
  double error = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(error / norm);
}
// o, lse, dq, dk, dv.
void ExpectClose(const std::vector<Tensor>& x, const std::vector<Tensor>& exact) {
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_LT(RelativeError(x[i], exact[i]), i == 1 ? 1e-5 : 1e-2) << "tensor " << i;
}
void ExpectSameBits(const std::vector<Tensor>& x, const std::vector<Tensor>& y) {
  for (size_t i = 0; i < x.size(); ++i) EXPECT_TRUE(test::SameBits(x[i], y[i])) << "tensor " << i;
}

TEST(CudaCudnnAttention, EqualsCpuAndRunsAlike) {
  uint64_t seed = 0;
  for (const Case& c : kCases) {
    SCOPED_TRACE("case " + std::to_string(&c - kCases.data()));
    Attention attention(c, DType::kBF16, seed += 10);
    EXPECT_TRUE(attention.ForwardPlan().usable);
    EXPECT_TRUE(attention.BackwardPlan().usable);
    EXPECT_TRUE(attention.BackwardPlan().deterministic);
    std::vector<Tensor> checked;
    {
      test::CudaParity parity;
      checked = attention.Run();
    }
    const std::vector<Tensor> once = attention.RunCudnn();
    ExpectClose(once, checked);
    ExpectSameBits(once, attention.RunCudnn());
  }
}

TEST(CudaCudnnAttention, WindowsEqualCpu) {
  for (const Case& c : std::vector<Case>{{{640}, 100, 8, 2, 64, 64},
                                         {{333, 1, 200}, 128, 8, 2, 192, 128},
                                         {{150, 90}, 2, 4, 1, 128, 128},
                                         {{256, 31}, 5000, 4, 1, 64, 64}}) {
    SCOPED_TRACE("window " + std::to_string(c.window));
    Attention attention(c, DType::kBF16, 500);
    EXPECT_TRUE(attention.ForwardPlan().usable);
    EXPECT_TRUE(attention.BackwardPlan().usable);
    std::vector<Tensor> checked;
    {
      test::CudaParity parity;
      checked = attention.Run();
    }
    ExpectClose(attention.RunCudnn(), checked);
  }
}

// Whoever does these, the numbers are right.
TEST(CudaCudnnAttention, OtherWidthsEqualCpu) {
  for (const Case& c : std::vector<Case>{{{384}, 0, 4, 2, 72, 40},
                                         {{100, 29}, 0, 4, 2, 8, 8},
                                         {{200, 57}, 0, 4, 4, 256, 256},
                                         {{256}, 0, 4, 2, 128, 64}}) {
    SCOPED_TRACE("width " + std::to_string(c.dk));
    Attention attention(c, DType::kBF16, 600);
    test::CudaParity parity;
    attention.Run();
  }
}

TEST(CudaCudnnAttention, OwnKernelsForTheRest) {
  const auto usable = [](const Case& c, DType dtype) {
    return Attention(c, dtype, 700).ForwardPlan().usable;
  };
  EXPECT_TRUE(usable({{64, 65}, 0, 4, 2, 64, 64}, DType::kBF16));
  EXPECT_FALSE(usable({{64, 65}, 0, 4, 2, 64, 64}, DType::kF32));
  EXPECT_FALSE(usable({{1, 1, 1}, 0, 4, 2, 64, 64}, DType::kBF16));
  EXPECT_FALSE(usable({{64}, 0, 4, 2, 12, 64}, DType::kBF16));
  EXPECT_FALSE(usable({{64}, 0, 4, 2, 64, 20}, DType::kBF16));
  EXPECT_FALSE(usable({{0}, 0, 4, 2, 64, 64}, DType::kBF16));
}

// Above a hundred documents of two classes, some empty or of one token: several runs of each class.
TEST(CudaCudnnAttention, ManyDocumentsEqualCpu) {
  const Case c{ManyLengths(130), 0, 4, 2, 64, 64};
  Attention attention(c, DType::kBF16, 900);
  ASSERT_TRUE(attention.BackwardPlan().usable);
  EXPECT_TRUE(attention.BackwardPlan().deterministic);
  EXPECT_GT(attention.BackwardPlan().runs, 2);
  std::vector<Tensor> checked;
  {
    test::CudaParity parity;
    checked = attention.Run();
  }
  const std::vector<Tensor> once = attention.RunCudnn();
  ExpectClose(once, checked);
  ExpectSameBits(once, attention.RunCudnn());
}

TEST(CudaCudnnAttention, FewPlansServeAllBatches) {
  const auto run = [](std::vector<int32_t> lengths) {
    Attention({std::move(lengths), 0, 4, 2, 64, 64}, DType::kBF16, 950).RunCudnn();
  };
  run({512, 513, 7, 992});  // both classes of 2024 rows
  const int64_t before = cuda::NumCudnnPlans(CudaDevice());
  run({2024 - 700, 700});
  run({1, 2000, 0, 23});
  run({600, 600, 600, 2, 2, 220});
  run(std::vector<int32_t>(253, 8));
  EXPECT_EQ(cuda::NumCudnnPlans(CudaDevice()), before);
}

// Without determinism: the same numbers, in one turn, by other plans.
TEST(CudaCudnnAttention, NonDeterministicEqualsCpu) {
  for (const std::vector<int32_t>& lengths :
       std::vector<std::vector<int32_t>>{{1024}, {700, 40, 1, 600, 0, 512, 513}}) {
    SCOPED_TRACE(std::to_string(lengths.size()) + " documents");
    Attention attention({lengths, 0, 8, 2, 192, 128, false}, DType::kBF16, 970);
    ASSERT_TRUE(attention.BackwardPlan().usable);
    EXPECT_FALSE(attention.BackwardPlan().deterministic);
    EXPECT_EQ(attention.BackwardPlan().turns, 1);
    test::CudaParity parity;
    attention.Run();
  }
}

void ExpectEqualsOwnKernels(const Case& c, bool deterministic, int64_t turns, int64_t runs) {
  Attention attention(c, DType::kBF16, 800);
  const cuda::CudnnPlan plan = attention.BackwardPlan();
  ASSERT_TRUE(plan.usable);
  EXPECT_EQ(plan.deterministic, deterministic);
  EXPECT_EQ(plan.turns, turns);
  EXPECT_EQ(plan.runs, runs);
  const std::vector<Tensor> once = attention.RunCudnn();
  ExpectClose(once, attention.RunOwn());
  if (deterministic) ExpectSameBits(once, attention.RunCudnn());
}

// More memory than the deterministic backward may have: groups of heads and documents take turns.
TEST(CudaCudnnAttention, TrainingSizesEqualOwnKernels) {
  ExpectEqualsOwnKernels({{8192}, 0, 64, 4, 64, 64}, true, 2, 2);
  // The short one in a run of one turn, then each long one in two turns.
  ExpectEqualsOwnKernels({{6000, 100, 2092}, 0, 48, 2, 64, 64}, true, 2, 5);
  // All classes.
  ExpectEqualsOwnKernels(
      {{5, 9000, 0, 2500, 500, 1, 1200, 6000, 300, 7000, 4000, 900, 800, 562}, 0, 16, 1, 64, 64},
      true, 1, 5);
}

// Runs whose slots together are shorter than the rows: starts of documents lie beyond slots *
// length.
TEST(CudaCudnnAttention, DocumentsBeyondTheSlots) {
  ExpectEqualsOwnKernels({{7000, 300, 6000, 5000, 1, 4000, 8000, 2400}, 0, 16, 1, 64, 64}, true, 1,
                         4);
}

// The longest document that is deterministic, and one that is not.
TEST(CudaCudnnAttention, LongestDeterministicDocument) {
  ops::CausalSizes sizes{.dtype = DType::kBF16, .heads = 64, .groups = 4, .dk = 192, .dv = 128};
  // Own kernels have these sizes, at any length, and not the others.
  EXPECT_EQ(ops::LongestDeterministicDocument(sizes, CudaDevice()),
            std::numeric_limits<int64_t>::max());
  sizes.dk = sizes.dv = 64;
  EXPECT_EQ(ops::LongestDeterministicDocument(sizes, CudaDevice()), 11520);
  sizes.dtype = DType::kF32;
  EXPECT_EQ(ops::LongestDeterministicDocument(sizes, CudaDevice()),
            std::numeric_limits<int64_t>::max());
  ExpectEqualsOwnKernels({{11500, 20}, 0, 16, 1, 64, 64}, true, 1, 2);
  ExpectEqualsOwnKernels({{11600, 100, 11}, 0, 16, 1, 64, 64}, false, 1, 2);
}

}  // namespace
}  // namespace lacuna
