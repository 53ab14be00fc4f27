// Sharded updates on a mesh: whole parameters are summed over all ranks, parts over the ranks that
// have the same; each rank ends with its shares, and everybody with everybody's new weights.
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/functions/activation.h"
#include "autograd/functions/linear.h"
#include "autograd/tape.h"
#include "core/allocator.h"
#include "core/memory_category.h"
#include "distributed/gradient_reducer.h"
#include "distributed/mesh.h"
#include "nn/optimizer.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomTensor;
using test::World;

constexpr int kLayers = 5, kBatches = 3;
constexpr int64_t kWidth = 20;

// Whole parameters and, as every second layer, parts; one that nothing uses, one that is used twice.
class Chain : public Module {
 public:
  explicit Chain(int expert_rank = 0, bool with_unused = true) {
    for (int i = 0; i < kLayers; ++i) {
      weights.push_back(&AddParameter(fmt::format("w{}", i), {kWidth, kWidth}, Init::Normal(0.2)));
      if (i % 2 == 1) {
        weights.back()->part = ParameterPart{.global_shape = {8, kWidth, kWidth},
                                             .first_element = expert_rank * kWidth * kWidth};
      }
    }
    if (with_unused) AddParameter("unused", {50}, Init::Ones());
    SetName("");
  }
  std::vector<Parameter*> weights;
};

void Backward(Chain& chain, int rank, int batch, DType dtype, bool hooks) {
  Tape tape;
  Variable x(RandomTensor({5, kWidth}, dtype, static_cast<uint64_t>(10 * rank + batch + 1)));
  for (Parameter* w : chain.weights) x = Sigmoid(tape, Linear(tape, x, *w));
  x = Linear(tape, x, *chain.weights[0]);
  tape.Backward({{x, RandomTensor({5, kWidth}, dtype, 99)}}, hooks);
}

struct Sharded {
  Sharded(DType dtype, int64_t bucket_bytes, bool with_unused = true)
      : mesh(*MakeMesh(World(), World().size() >= 4 ? World().size() / 2 : 1)),
        chain(mesh.expert->rank(), with_unused),
        parameters(chain, dtype, 7, true, kCpu,
                   {.whole = {.size = World().size(), .rank = World().rank()},
                    .parts = {.size = mesh.replica->size(), .rank = mesh.replica->rank()},
                    .bucket_bytes = bucket_bytes,
                    .shard_updates = true}),
        reducer(parameters, World(), mesh.replica.get()) {}
  Mesh mesh;
  Chain chain;
  FlatParameters parameters;
  GradientReducer reducer;
};

// The gradient of every entry after a step, summed over the ranks that have the same parameter as
// this one: batch by batch in f64, each rounded once, then added in the type of gradients.
std::vector<Tensor> ExpectedGradients(const Sharded& setup, DType dtype) {
  const int expert = setup.mesh.expert->size(), mine = World().rank() % expert;
  std::vector<Tensor> sums;
  for (int batch = 0; batch < kBatches; ++batch) {
    std::vector<std::vector<double>> of_ranks(setup.parameters.entries().size());
    for (int r = 0; r < World().size(); ++r) {
      Chain of_rank(r % expert);
      FlatParameters reference(of_rank, dtype, 7);
      Backward(of_rank, r, batch, dtype, false);
      for (size_t e = 0; e < of_ranks.size(); ++e) {
        const Parameter& parameter = *reference.entries()[e].parameter;
        if (parameter.part && r % expert != mine) continue;
        const std::vector<double> grad = parameter.grad.ToDoubles();
        of_ranks[e].resize(grad.size());
        for (size_t i = 0; i < grad.size(); ++i) of_ranks[e][i] += grad[i];
      }
    }
    for (size_t e = 0; e < of_ranks.size(); ++e) {
      const Tensor sum = Tensor::FromDoubles(
          of_ranks[e], {static_cast<int64_t>(of_ranks[e].size())}, AccumulationType(dtype));
      if (batch == 0) {
        sums.push_back(sum);
        continue;
      }
      std::vector<double> a = sums[e].ToDoubles();
      const std::vector<double> b = sum.ToDoubles();
      for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
      sums[e] = Tensor::FromDoubles(a, sum.shape(), sum.dtype());
    }
  }
  return sums;
}

void RunStep(Sharded& setup, DType dtype) {
  setup.parameters.ZeroGrad();
  for (int batch = 0; batch < kBatches; ++batch) {
    const bool last = batch + 1 == kBatches;
    Backward(setup.chain, World().rank(), batch, dtype, last || setup.reducer.every_micro_batch());
    if (!last && setup.reducer.every_micro_batch()) setup.reducer.FinishBackward();
  }
  setup.parameters.ZeroUnsetGrad();
  setup.reducer.Finish();
}

TEST(ShardedGradients, SharesAreTheSumsOfTheirGroupsToTheBit) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const int64_t bucket_bytes : {int64_t{1}, int64_t{3000}, int64_t{1} << 30}) {
      Sharded setup(dtype, bucket_bytes);
      const std::vector<Tensor> expected = ExpectedGradients(setup, dtype);
      for (int step = 0; step < 2; ++step) {
        RunStep(setup, dtype);
        for (const FlatPiece& piece : setup.parameters.layout().updated) {
          if (World().size() == 1) continue;  // adds batches in the order of the tape, unrounded
          EXPECT_TRUE(test::SameBits(setup.parameters.GradOf(piece),
                                     expected[piece.entry].View(piece.first, {piece.count})));
        }
      }
      // Every element is updated by one rank of those that have it.
      Tensor updated = Tensor::Zeros({1}, DType::kI64);
      for (const FlatPiece& piece : setup.parameters.layout().updated)
        updated.mutable_data<int64_t>()[0] += piece.count;
      World().AllReduceSum(updated).Wait();
      int64_t all = 0;
      for (const FlatParameters::Entry& entry : setup.parameters.entries()) {
        all += entry.parameter->numel() * (entry.parameter->part ? setup.mesh.expert->size() : 1);
      }
      EXPECT_EQ(updated.data<int64_t>()[0], all);
    }
  }
}

TEST(ShardedGradients, NormCountsEveryElementOnce) {
  Sharded setup(DType::kF64, 3000);
  RunStep(setup, DType::kF64);
  const std::vector<Tensor> mine = ExpectedGradients(setup, DType::kF64);
  double whole = 0, parts = 0;
  for (size_t e = 0; e < mine.size(); ++e) {
    double& sum = setup.parameters.entries()[e].parameter->part ? parts : whole;
    for (const double g : mine[e].ToDoubles()) sum += g * g;
  }
  Tensor of_group = Tensor::FromVector(std::vector<double>{parts}, {1});
  setup.mesh.expert->AllReduceSum(of_group).Wait();
  const double expected = std::sqrt(whole + of_group.data<double>()[0]);
  const Tensor loss = Tensor::Zeros({1}, DType::kF64);
  const GradientNorm norm =
      MeasureGradients(setup.parameters, loss, 0.5 * expected,
                       [](Tensor& squares) { World().AllReduceSum(squares).Wait(); });
  EXPECT_NEAR(NormOf(norm.squares.ToDoubles()) / expected, 1, 1e-13);
  // The same bits of the factor on every rank.
  std::vector<std::string> all =
      AllGatherNow(World(), fmt::format("{:a}", norm.clip_factor.ToDoubles()[0]), AfterSeconds(30));
  for (const std::string& factor : all) EXPECT_EQ(factor, all[0]);
  EXPECT_NEAR(norm.clip_factor.ToDoubles()[0], 0.5, 1e-12);
}

TEST(ShardedGradients, EverybodyGetsTheNewWeights) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Sharded setup(dtype, 3000);
    const auto value_of = [&](size_t entry, int64_t k) {
      const Parameter& parameter = *setup.parameters.entries()[entry].parameter;
      const int64_t first = parameter.part ? parameter.part->first_element : 0;
      return static_cast<double>((static_cast<int64_t>(entry) * 37 + first + k) % 251);
    };
    for (const FlatPiece& piece : setup.parameters.layout().updated) {
      std::vector<double> values;
      for (int64_t k = 0; k < piece.count; ++k)
        values.push_back(value_of(piece.entry, piece.first + k));
      Tensor master = setup.parameters.MasterOf(piece);
      master.CopyFrom(Tensor::FromDoubles(values, {piece.count}, DType::kF32));
    }
    setup.parameters.SyncValueFromMaster();
    setup.reducer.GatherValues();
    setup.reducer.WaitForValues();
    for (size_t e = 0; e < setup.parameters.entries().size(); ++e) {
      const std::vector<double> values = setup.parameters.entries()[e].parameter->value.ToDoubles();
      for (size_t k = 0; k < values.size(); ++k)
        ASSERT_EQ(values[k], value_of(e, static_cast<int64_t>(k))) << e << " " << k;
    }
  }
}

// A gradient has memory only while its bucket fills or travels.
TEST(ShardedGradients, NoGradientOutlivesItsSum) {
  // One that nothing uses holds all buckets behind it back until the pass has ended.
  Sharded setup(DType::kF32, 1, /*with_unused=*/false);
  const auto of_buckets = [] { return CpuMemoryStats().of(MemoryCategory::kCommunication); };
  const int64_t before = of_buckets().in_use;
  ResetCpuMemoryPeak();
  RunStep(setup, DType::kF32);
  EXPECT_EQ(of_buckets().in_use, before);
  // One that is used twice, one that fills, one that travels and what of it is received; an eighth
  // for the allocator.
  const int64_t bucket = 4 * (kWidth * kWidth + 16 * World().size());
  EXPECT_LE(of_buckets().peak - before, 4 * bucket * 9 / 8);
  int64_t held = 0;
  for (const FlatParameters::Entry& entry : setup.parameters.entries()) {
    const bool alone =
        entry.parameter->part ? setup.mesh.replica->size() == 1 : World().size() == 1;
    EXPECT_EQ(entry.parameter->grad.defined(), alone) << entry.parameter->name;
    held += entry.parameter->numel();
  }
  if (World().size() == 8) {
    EXPECT_LT(setup.parameters.layout().local_size, held / 2);
  }
}

}  // namespace
}  // namespace lacuna
