// The router's kernels on CUDA: against the CPU's, and what each promises exactly.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "moe/bias_update.h"
#include "moe/expert_load.h"
#include "moe/route.h"
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

constexpr DType kF32 = DType::kF32;

Tensor EmptyThere(Shape shape, DType dtype) {
  return Tensor::Empty(std::move(shape), dtype, CudaDevice());
}

struct Shapes {
  int64_t rows, experts, chosen, samples;
};
// No row, one expert, all experts chosen, the edges of what a lane holds, more choices than lanes,
// a training step's.
const Shapes kShapes[] = {{0, 4, 2, 1},     {1, 1, 1, 1},     {6, 7, 7, 3},
                          {33, 32, 6, 1},   {40, 33, 6, 4},   {17, 200, 8, 1},
                          {10, 513, 40, 2}, {9, 1024, 32, 3}, {4096, 72, 6, 2}};

// Every kernel of a router once, on what the one before it gave. Returns all outputs.
std::vector<Tensor> Route(const Shapes& s, RouterKind kind, bool normalize, bool with_load) {
  const Stream stream = CudaStream();
  const Tensor logits = OnDevice(RandomTensor({s.rows, s.experts}, kF32, 1, 2.0)),
               bias = OnDevice(RandomTensor({s.experts}, kF32, 2, 0.1)),
               dweights = OnDevice(RandomTensor({s.rows, s.chosen}, kF32, 3));
  Tensor scores = EmptyThere({s.rows, s.experts}, kF32), lse = EmptyThere({s.rows}, kF32),
         ids = EmptyThere({s.rows, s.chosen}, DType::kI32),
         weights = EmptyThere({s.rows, s.chosen}, kF32),
         counts = EmptyThere({s.samples, s.experts}, DType::kF64), mean = Tensor::EmptyLike(counts),
         dlogits = Tensor::EmptyLike(logits);
  ops::RouteScores({.logits = logits.Ref(),
                    .scores = scores.MutableRef(),
                    .lse = lse.MutableRef(),
                    .kind = kind},
                   stream);
  ops::ChooseExperts({.scores = scores.Ref(),
                      .bias = kind == RouterKind::kSigmoid ? bias.Ref() : TensorRef{},
                      .ids = ids.MutableRef()},
                     stream);
  ops::RouteWeights({.scores = scores.Ref(),
                     .ids = ids.Ref(),
                     .weights = weights.MutableRef(),
                     .normalize = normalize,
                     .scale = 2.5},
                    stream);
  ops::CountChoices({.ids = ids.Ref(), .counts = counts.MutableRef()}, stream);
  Tensor load = counts.Clone();
  ops::NormalizeLoad({.counts = load.MutableRef()}, stream);
  ops::MeanProbabilities({.scores = scores.Ref(), .mean = mean.MutableRef(), .kind = kind}, stream);
  ops::RouteBwd({.logits = logits.Ref(),
                 .scores = scores.Ref(),
                 .lse = lse.Ref(),
                 .ids = ids.Ref(),
                 .dweights = dweights.Ref(),
                 .load = with_load ? load.Ref() : TensorRef{},
                 .dlogits = dlogits.MutableRef(),
                 .kind = kind,
                 .normalize = normalize,
                 .scale = 2.5,
                 .aux_scale = with_load ? 0.7 : 0.0,
                 .z_scale = with_load ? 0.1 : 0.0},
                stream);
  std::vector<Tensor> outputs;
  for (const Tensor& t : {scores, lse, ids, weights, counts, load, mean, dlogits})
    outputs.push_back(t.To(kCpu));
  return outputs;
}

TEST(CudaRoute, EqualsTheCpu) {
  for (const Shapes& s : kShapes) {
    for (const RouterKind kind : {RouterKind::kSigmoid, RouterKind::kSoftmax}) {
      for (const bool flag : {false, true}) {
        SCOPED_TRACE(testing::Message() << s.rows << " x " << s.experts << ", " << s.chosen << ", "
                                        << (kind == RouterKind::kSigmoid) << flag);
        const test::CudaParity parity;
        Route(s, kind, flag, !flag);
        Route(s, kind, flag, flag);
      }
    }
  }
}

TEST(CudaRoute, TheSameBitsTwice) {
  const Shapes s = {4096, 72, 6, 4};
  const std::vector<Tensor> a = Route(s, RouterKind::kSigmoid, true, true),
                            b = Route(s, RouterKind::kSigmoid, true, true);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(SameBits(a[i], b[i])) << i;
}

Tensor Choose(const Tensor& scores, int64_t chosen, Stream stream) {
  Tensor ids = Tensor::Empty({scores.dim(0), chosen}, DType::kI32, scores.device());
  ops::ChooseExperts({.scores = scores.Ref(), .bias = {}, .ids = ids.MutableRef()}, stream);
  return ids.To(kCpu);
}

// Scores of few values, zeros of both signs among them: nearly every choice is a tie.
TEST(CudaRoute, TiesGoToTheLowestExpert) {
  for (const int64_t experts : {5, 72, 1000}) {
    std::vector<double> values = RandomTensor({64, experts}, kF32, 4).ToDoubles();
    for (double& v : values) v = v < -1 ? -1.0 : v < 0 ? -0.0 : v < 0.5 ? 0.0 : 0.5;
    const Tensor scores = Tensor::FromDoubles(values, {64, experts}, kF32);
    EXPECT_TRUE(SameBits(Choose(OnDevice(scores), 5, CudaStream()), Choose(scores, 5, kCpuStream)))
        << experts;
  }
}

TEST(CudaRoute, NanScoresStillChooseDifferentExperts) {
  std::vector<double> values = RandomTensor({3, 40}, kF32, 4).ToDoubles();
  for (size_t i = 0; i < 80; ++i) {
    if (i >= 40 || i % 3 == 0) values[i] = std::numeric_limits<double>::quiet_NaN();
  }
  values[90] = -std::numeric_limits<double>::infinity();
  const std::vector<double> ids =
      Choose(OnDevice(Tensor::FromDoubles(values, {3, 40}, kF32)), 40, CudaStream()).ToDoubles();
  for (size_t row = 0; row < 3; ++row) {
    const std::set<double> different(ids.begin() + 40 * row, ids.begin() + 40 * (row + 1));
    EXPECT_EQ(different.size(), 40u);
    EXPECT_GE(*different.begin(), 0);
    EXPECT_LT(*different.rbegin(), 40);
  }
}

TEST(CudaRoute, MoreExpertsThanTheKernelsHoldAreRefused) {
  const Tensor scores = OnDevice(RandomTensor({2, 1025}, kF32, 1));
  try {
    Choose(scores, 2, CudaStream());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("at most 1024"), std::string::npos) << error.what();
  }
}

TEST(CudaExpertLoad, IdsOutsideCountAsTheNearestExpert) {
  const Tensor ids =
      Tensor::FromVector(std::vector<int32_t>{-1, 5, 2, std::numeric_limits<int32_t>::max(),
                                              std::numeric_limits<int32_t>::min(), 1},
                         {3, 2});
  Tensor counts = EmptyThere({1, 3}, DType::kF64);
  ops::CountChoices({.ids = OnDevice(ids).Ref(), .counts = counts.MutableRef()}, CudaStream());
  EXPECT_EQ(counts.ToDoubles(), (std::vector<double>{2, 1, 3}));
}

// More choices than one block counts, in samples that blocks do not cut evenly.
TEST(CudaExpertLoad, CountsOfLongSamples) {
  for (const int64_t samples : {1, 3, 2000}) {
    const Tensor ids = OnDevice(RandomIds({6000, 5}, 72, 3));
    Tensor counts = EmptyThere({samples, 72}, DType::kF64);
    const test::CudaParity parity;
    ops::CountChoices({.ids = ids.Ref(), .counts = counts.MutableRef()}, CudaStream());
    ops::NormalizeLoad({.counts = counts.MutableRef()}, CudaStream());
  }
}

TEST(CudaBias, MovesAsOnTheCpu) {
  for (const int64_t experts : {1, 6, 72, 1024}) {
    std::vector<double> values = RandomTensor({experts}, DType::kF64, 1).ToDoubles();
    for (double& v : values) v = std::floor(100 + 3 * v);
    Tensor counts = Tensor::FromVector(values, {experts}), bias = RandomTensor({experts}, kF32, 2),
           on_device = OnDevice(bias);
    const Tensor counts_there = OnDevice(counts);
    ops::UpdateBias({.counts = counts.Ref(), .bias = bias.MutableRef(), .rate = 0.001}, kCpuStream);
    const test::CudaParity parity;
    ops::UpdateBias({.counts = counts_there.Ref(), .bias = on_device.MutableRef(), .rate = 0.001},
                    CudaStream());
    EXPECT_TRUE(SameBits(on_device.To(kCpu), bias));
  }
}

}  // namespace
}  // namespace lacuna
