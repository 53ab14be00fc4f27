// Gradients summed over ranks against one rank that computes every rank's part and adds them in
// rank order.
#include "distributed/gradient_reducer.h"

#include <gtest/gtest.h>

#include "autograd/functions/activation.h"
#include "autograd/functions/linear.h"
#include "autograd/tape.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomTensor;
using test::World;

constexpr int kLayers = 6;
constexpr int64_t kWidth = 24;

// A chain of layers, one of which only some inputs go through, and a parameter that nothing uses.
class Chain : public Module {
 public:
  Chain() {
    for (int i = 0; i < kLayers; ++i)
      weights.push_back(&AddParameter(fmt::format("w{}", i), {kWidth, kWidth}, Init::Normal(0.2)));
    AddParameter("unused", {50}, Init::Ones());
    sometimes = &AddParameter("sometimes", {kWidth, kWidth}, Init::Normal(0.2));
  }
  std::vector<Parameter*> weights;
  Parameter* sometimes;
};

Sharding Whole(int64_t bucket_bytes) {
  return {.whole = {.size = World().size(), .rank = World().rank()},
          .parts = {},
          .bucket_bytes = bucket_bytes};
}

// Two micro-batches of `rank`; hooks fire in the second one.
void Backward(Chain& chain, int rank, DType dtype, bool hooks) {
  for (int batch = 0; batch < 2; ++batch) {
    Tape tape;
    Variable x(RandomTensor({5, kWidth}, dtype, static_cast<uint64_t>(10 * rank + batch + 1)));
    for (Parameter* w : chain.weights) x = Sigmoid(tape, Linear(tape, x, *w));
    if (rank % 2 == 1) x = Linear(tape, x, *chain.sometimes);
    tape.Backward({{x, RandomTensor({5, kWidth}, dtype, 99)}}, hooks && batch == 1);
  }
}

void ExpectSumOfRanks(DType dtype, int64_t bucket_bytes) {
  Chain chain, alone;
  chain.SetName("");
  alone.SetName("");
  FlatParameters parameters(chain, dtype, 7, true, kCpu, Whole(bucket_bytes)),
      reference(alone, dtype, 7);
  GradientReducer reducer(parameters, World());
  for (int step = 0; step < 3; ++step) {
    parameters.ZeroGrad();
    Backward(chain, World().rank(), dtype, true);
    const int64_t launched = reducer.num_launched();
    reducer.Finish();
    std::vector<std::vector<double>> sums;
    for (int r = 0; r < World().size(); ++r) {
      reference.ZeroGrad();
      Backward(alone, r, dtype, false);
      sums.resize(reference.entries().size());
      for (size_t e = 0; e < sums.size(); ++e) {
        const std::vector<double> part = reference.entries()[e].parameter->grad.ToDoubles();
        sums[e].resize(part.size());
        for (size_t i = 0; i < part.size(); ++i) sums[e][i] += part[i];
      }
    }
    for (size_t e = 0; e < sums.size(); ++e) {
      const Tensor& grad = parameters.entries()[e].parameter->grad;
      EXPECT_TRUE(test::SameBits(grad, Tensor::FromDoubles(sums[e], grad.shape(), grad.dtype())));
    }
    if (World().size() == 1) {
      EXPECT_EQ(reducer.num_buckets(), 0);
    }
    EXPECT_LE(launched, reducer.num_buckets());
  }
}

TEST(GradientReducer, IsTheSumOfAllRanksToTheBit) {
  for (const int64_t bucket_bytes : {int64_t{1}, int64_t{3000}, int64_t{1} << 30}) {
    ExpectSumOfRanks(DType::kF64, bucket_bytes);
    ExpectSumOfRanks(DType::kF32, bucket_bytes);
  }
}

// Used parameters only: all but the bucket of the first layer are under way before backward has
// ended.
class Plain : public Module {
 public:
  Plain() {
    for (int i = 0; i < kLayers; ++i)
      weights.push_back(&AddParameter(fmt::format("w{}", i), {kWidth, kWidth}, Init::Normal(0.2)));
  }
  std::vector<Parameter*> weights;
};

TEST(GradientReducer, LaunchesDuringBackwardFromTheLastUsed) {
  Plain plain;
  plain.SetName("");
  FlatParameters parameters(plain, DType::kF32, 7, true, kCpu, Whole(1));
  GradientReducer reducer(parameters, World());
  std::vector<int64_t> launched;
  Tape tape;
  Variable x = tape.Leaf(RandomTensor({5, kWidth}, DType::kF32, 3));
  for (Parameter* w : plain.weights) {
    const Tensor value = x.value();
    x = tape.Record("probe", {x}, {}, value, [&](GradContext& g) {
      launched.push_back(reducer.num_launched());
      g.Set(0, g.dy());
    });
    x = Linear(tape, x, *w);
  }
  tape.Backward({{x, RandomTensor({5, kWidth}, DType::kF32, 99)}}, true);
  const int buckets = World().size() == 1 ? 0 : 1;
  for (int i = 0; i < kLayers; ++i) EXPECT_EQ(launched[static_cast<size_t>(i)], buckets * (i + 1));
  reducer.Finish();
  EXPECT_EQ(reducer.num_launched(), 0);
}

TEST(GradientReducer, SecondBackwardBeforeFinishIsMisuse) {
  if (World().size() == 1) return;  // nothing is hooked, so there is nothing to misuse
  Plain plain;
  plain.SetName("");
  FlatParameters parameters(plain, DType::kF32, 7, true, kCpu, Whole(int64_t{1} << 30));
  GradientReducer reducer(parameters, World());
  const auto backward = [&] {
    Tape tape;
    tape.Backward(
        {{Linear(tape, Variable(RandomTensor({5, kWidth}, DType::kF32, 3)), *plain.weights[0]),
          RandomTensor({5, kWidth}, DType::kF32, 9)}},
        true);
  };
  for (int i = 0; i < kLayers; ++i) backward();
  EXPECT_THROW(backward(), Error);
  reducer.Finish();
}

}  // namespace
}  // namespace lacuna
