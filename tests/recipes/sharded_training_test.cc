// Training with sharded gradients and optimizer state (parallel.zero = 2; 3: sharded_weights_test.cc):
// the state of any number of ranks is that of one, and that of unsharded ranks to the bit.
#include <gtest/gtest.h>

#include <algorithm>

#include "distributed/checkpoint_writer.h"
#include "tests/recipes/rank_case.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::kGlobalBatch;
using test::kNsaSigmoid;
using test::Trace;
using test::TrainSteps;
using test::World;

constexpr int64_t kSteps = 50;

void ExpectOneRanksState(DType dtype, double tolerance) {
  SetNumThreads(1);
  const auto self = MakeSelfCommunicator();
  const Trace one = TrainSteps(kNsaSigmoid, *self, {.steps = kSteps, .dtype = dtype});
  EXPECT_LT(one.losses.back(), one.losses.front()) << "nothing is learnt";
  for (const bool sharded : {false, true}) {
    const Trace many = TrainSteps(kNsaSigmoid, World(),
                                  {.steps = kSteps, .dtype = dtype, .shard_updates = sharded});
    EXPECT_TRUE(test::Close(many.losses, one.losses, tolerance));
    EXPECT_TRUE(test::Close(many.norms, one.norms, tolerance));
    EXPECT_TRUE(test::Close(many.weights, one.weights, tolerance));
    EXPECT_TRUE(test::Close(many.bias, one.bias, 0));
  }
}

TEST(ShardedTraining, FiftyStepsOfAnyNumberOfRanksF64) {
  ExpectOneRanksState(DType::kF64, 1e-12);
}
TEST(ShardedTraining, FiftyStepsOfAnyNumberOfRanksF32) {
  ExpectOneRanksState(DType::kF32, 1e-5);
}

// One micro-batch a step: every gradient is one sum over ranks, rounded once, sharded or not.
TEST(ShardedTraining, ShardedAndUnshardedStatesHaveTheSameBits) {
  SetNumThreads(1);
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    const test::RankOptions options{
        .steps = kSteps, .micro_batch = kGlobalBatch / World().size(), .dtype = dtype};
    test::RankOptions sharded = options;
    sharded.shard_updates = true;
    const Trace a = TrainSteps(kNsaSigmoid, World(), options),
                b = TrainSteps(kNsaSigmoid, World(), sharded);
    EXPECT_EQ(a.losses, b.losses) << NameOf(dtype);
    EXPECT_EQ(a.norms, b.norms) << NameOf(dtype);
    EXPECT_EQ(a.weights, b.weights) << NameOf(dtype);
    EXPECT_EQ(a.hash, b.hash) << NameOf(dtype);
    EXPECT_TRUE(std::any_of(a.norms.begin(), a.norms.end(), [](double n) { return n > 0.5; }))
        << "nothing is clipped";
  }
}

// What sharded ranks saved is loaded by one rank, and by ranks that share nothing, as the same state.
TEST(ShardedTraining, CheckpointsAreOfNoLayout) {
  SetNumThreads(1);
  const test::TempDir own;
  const std::string directory = BroadcastNow(World(), own.path(), 0, AfterSeconds(30));
  const auto load = [&](Communicator& comm, DType dtype, bool shard_updates) {
    BuiltModel built = test::Build(kNsaSigmoid, dtype, test::ShardingFor(comm, shard_updates));
    AdamW optimizer(*built.parameters, {});
    TrainingState state = TensorsOf(built, &optimizer);
    const auto loaded = LoadCheckpoint(comm, directory, state, {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return StateHash(comm, state);
  };
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const int64_t step = static_cast<int64_t>(dtype);
    const auto save = [&](BuiltModel& built, AdamW& optimizer) {
      CheckpointWriter writer(World(), {.directory = directory, .keep_latest = 1});
      const auto report = writer.Save(step, TensorsOf(built, &optimizer));
      ASSERT_TRUE(report.ok()) << report.status();
    };
    const Trace trace = TrainSteps(
        kNsaSigmoid, World(), {.steps = 3, .dtype = dtype, .shard_updates = true, .at_end = save});
    const auto self = MakeSelfCommunicator();
    EXPECT_EQ(load(*self, dtype, false), trace.hash);
    EXPECT_EQ(load(World(), dtype, false), trace.hash);
    EXPECT_EQ(load(World(), dtype, true), trace.hash);
    World().Barrier().Wait();  // nobody saves, or removes the directory, before all have read
  }
}

}  // namespace
}  // namespace lacuna
