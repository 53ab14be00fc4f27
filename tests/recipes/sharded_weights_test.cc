// Weights in shares (parallel.zero = 3): bit for bit what ranks with whole weights compute
// (parallel.zero = 2), in less memory; every pass finds its weights, and checkpoints know nothing of
// it.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "core/allocator.h"
#include "core/memory_category.h"
#include "distributed/checkpoint_writer.h"
#include "distributed/weight_gatherer.h"
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
using test::Variant;
using test::World;

void ExpectSameBits(const Trace& a, const Trace& b, const std::string& what) {
  EXPECT_EQ(a.losses, b.losses) << what;
  EXPECT_EQ(a.norms, b.norms) << what;
  EXPECT_EQ(a.telemetry, b.telemetry) << what;
  EXPECT_EQ(a.weights, b.weights) << what;
  EXPECT_EQ(a.bias, b.bias) << what;
  EXPECT_EQ(a.hash, b.hash) << what;
}

void ExpectBitsOfWholeWeights(const Variant& variant, test::RankOptions options,
                              const std::string& what) {
  SetNumThreads(1);
  options.shard_updates = true;
  const Trace whole = TrainSteps(variant, World(), options);
  options.shard_values = true;
  ExpectSameBits(TrainSteps(variant, World(), options), whole, what);
}

TEST(ShardedWeights, TheBitsOfWholeOnes) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    for (const int64_t micro_batches : {1, 4}) {
      const int64_t samples = kGlobalBatch / World().size();
      if (samples % micro_batches != 0) continue;
      ExpectBitsOfWholeWeights(kNsaSigmoid,
                               {.steps = 6, .micro_batch = samples / micro_batches, .dtype = dtype},
                               fmt::format("{}, {} micro-batches", NameOf(dtype), micro_batches));
    }
  }
}

TEST(ShardedWeights, OfEveryKindOfAttentionAndTiedHeads) {
  const Variant full{AttentionKind::kFull, RouterKind::kSoftmax, AuxLossScope::kGlobalBatch,
                     "full_softmax"};
  for (Variant variant : {kNsaSigmoid, full}) {
    for (const bool tied : {false, true}) {
      variant.tied = tied;
      ExpectBitsOfWholeWeights(variant, {.steps = 4},
                               fmt::format("{}, tied: {}", variant.name, tied));
    }
  }
}

TEST(ShardedWeights, WhereSegmentsRunAgain) {
  ExpectBitsOfWholeWeights(kNsaSigmoid, {.steps = 4, .recompute = {.block = true}}, "block");
  ExpectBitsOfWholeWeights(
      kNsaSigmoid, {.steps = 4, .recompute = {.attention = true, .feed_forward = true}}, "modules");
  ExpectBitsOfWholeWeights(
      kNsaSigmoid, {.steps = 4, .recompute = {.block = true, .keeps = RecomputeKeeps::kAttention}},
      "kept");
}

// The experts' parts stay whole, and are gathered once a step where several ranks have the same.
TEST(ShardedWeights, BesideExpertsAndSamplesOfSeveralRanks) {
  if (World().size() == 1) return;  // a group of one is the case above
  for (const int expert : {2, World().size()}) {
    ExpectBitsOfWholeWeights(kNsaSigmoid, {.steps = 4, .expert = expert},
                             fmt::format("experts over {}", expert));
    ExpectBitsOfWholeWeights(
        kNsaSigmoid,
        {.steps = 4, .expert = expert, .context = 2, .recompute = {.feed_forward = true}},
        fmt::format("experts over {}, samples over 2", expert));
  }
}

// A model of this rank and what brings its weights.
struct Model {
  explicit Model(bool shard_values, const Variant& variant = kNsaSigmoid)
      : built(test::Build(variant, DType::kF64, test::ShardingFor(World(), true, shard_values))),
        gatherer(*built.parameters, *built.model, World()) {}
  BuiltModel built;
  WeightGatherer gatherer;
};

TEST(ShardedWeights, PassesWithoutBackwardFindThem) {
  SetNumThreads(1);
  for (const bool tied : {false, true}) {
    Variant variant = kNsaSigmoid;
    variant.tied = tied;
    Model whole(false, variant), shares(true, variant);
    const Batch batch = test::MakeBatch({1});
    const auto numbers = [&](BuiltModel& built) {
      Tape tape(Tape::Mode::kInference);
      ForwardContext ctx{.tape = tape, .sequences = batch.sequences, .rows_per_sample = 48};
      std::vector<double> all =
          built.model->Loss(ctx, batch.ids, batch.targets, 1.0).row_loss.ToDoubles();
      for (const double y : built.model->Logits(ctx, batch.ids).ToDoubles()) all.push_back(y);
      SequenceCache first = built.model->NewCache(), second = built.model->NewCache();
      const Tensor logits =
          built.model->Extend(batch.ids, batch.sequences, {&first, &second}, kCpuStream);
      for (const double y : logits.ToDoubles()) all.push_back(y);
      return all;
    };
    EXPECT_EQ(numbers(shares.built), numbers(whole.built));
    EXPECT_EQ(numbers(shares.built), numbers(whole.built)) << "the second time";
    EXPECT_EQ(shares.built.model->device(), kCpu);
    for (const FlatParameters::Entry& entry : shares.built.parameters->entries())
      EXPECT_EQ(entry.parameter->value.defined(), World().size() == 1) << entry.parameter->name;
  }
}

// An update between forward and backward is seen, though the memory is another by then.
TEST(ShardedWeights, BackwardReadsWhatForwardRead) {
  SetNumThreads(1);
  Model model(true);
  const Batch batch = test::MakeBatch({1});
  Tape tape;
  ForwardContext ctx{.tape = tape, .sequences = batch.sequences, .rows_per_sample = 48};
  const GradientReducer reducer(*model.built.parameters, World());
  const auto result = model.built.model->Loss(ctx, batch.ids, batch.targets, 1.0);
  model.built.parameters->value().MutableRef();
  EXPECT_THROW(tape.BackwardFrom(result.loss), Error);
  World().Barrier().Wait();
}

// Elements of the two neighbouring stages that read most, with what else is in their buckets.
int64_t LargestNeighbours(Model& model) {
  const FlatLayout& layout = model.built.parameters->layout();
  const auto stages = model.built.model->StageParameters();
  int64_t largest = 0;
  for (size_t s = 0; s + 1 < stages.size(); ++s) {
    int64_t read = 0;
    for (const FlatBucket& bucket : layout.buckets) {
      read += std::any_of(bucket.entries.begin(), bucket.entries.end(),
                          [&](size_t i) {
                            const Parameter* const p = layout.entries[i].parameter;
                            return std::count(stages[s].begin(), stages[s].end(), p) > 0 ||
                                   std::count(stages[s + 1].begin(), stages[s + 1].end(), p) > 0;
                          })
                  ? bucket.size()
                  : 0;
    }
    largest = std::max(largest, read);
  }
  return largest;
}

TEST(ShardedWeights, TakeLessMemory) {
  SetNumThreads(1);
  Variant deep = kNsaSigmoid;
  deep.layers = 8;
  // Bytes of weights, and of what is on its way, above what was held before, at their peaks.
  const auto measure = [&](bool shard_values) {
    const auto in_use = [](MemoryCategory c) { return CpuMemoryStats().of(c).in_use; };
    const int64_t weights = in_use(MemoryCategory::kParameters),
                  moving = in_use(MemoryCategory::kCommunication);
    ResetCpuMemoryPeak();
    TrainSteps(deep, World(), {.steps = 2, .shard_updates = true, .shard_values = shard_values});
    EXPECT_EQ(in_use(MemoryCategory::kCommunication), moving) << "not given back";
    const MemoryStats stats = CpuMemoryStats();
    return std::pair{stats.of(MemoryCategory::kParameters).peak - weights,
                     stats.of(MemoryCategory::kCommunication).peak - moving};
  };
  const auto [whole, of_gradients] = measure(false);
  const auto [shares, moving] = measure(true);
  Model model(true, deep);
  const FlatLayout& layout = model.built.parameters->layout();
  if (World().size() == 1) {
    EXPECT_EQ(shares, whole);
    EXPECT_EQ(moving, of_gradients);
    return;
  }
  EXPECT_EQ(layout.value_size, layout.size / World().size());
  // An eighth for the allocator.
  EXPECT_GE(shares, 8 * layout.value_size);
  EXPECT_LE(shares, 8 * layout.value_size * 9 / 8);
  const int64_t gathered = 8 * LargestNeighbours(model);
  EXPECT_GE(moving, gathered);
  EXPECT_LE(moving, (gathered + of_gradients) * 9 / 8);
  EXPECT_LT(shares + moving, whole + of_gradients);
}

// Shares over half of the ranks: the other half has the same ones, and computes what one rank would.
TEST(ShardedWeights, SharesWithinAPartOfTheRanks) {
  if (World().size() < 4) return;  // half of two ranks has no shares
  SetNumThreads(1);
  const test::TempDir own;
  const std::string directory = BroadcastNow(World(), own.path(), 0, AfterSeconds(30));
  const auto self = MakeSelfCommunicator();
  for (const int expert : {1, 2}) {
    const Trace one = TrainSteps(kNsaSigmoid, *self, {});
    test::RankOptions options{.shard_updates = true, .expert = expert, .shard = World().size() / 2};
    const Trace whole = TrainSteps(kNsaSigmoid, World(), options);
    EXPECT_TRUE(test::Close(whole.losses, one.losses, 1e-12));
    EXPECT_TRUE(test::Close(whole.norms, one.norms, 1e-12));
    EXPECT_TRUE(test::Close(whole.weights, one.weights, 1e-12));
    EXPECT_TRUE(test::Close(whole.bias, one.bias, 0));
    // The copies of a share have the same bits, and share the work of saving it.
    options.shard_values = true;
    options.at_end = [&](BuiltModel& built, AdamW& optimizer) {
      const TrainingState state = TensorsOf(built, &optimizer);
      uint64_t mine = 0;
      for (const TensorSlice& slice : state.tensors) {
        for (const double x : slice.tensor.ToDoubles())
          mine = 31 * mine + std::bit_cast<uint64_t>(x);
      }
      const std::vector<std::string> all =
          AllGatherNow(World(), fmt::format("{}", mine), AfterSeconds(30));
      if (expert == 1) {
        EXPECT_EQ(all[0], all[all.size() / 2]);
        EXPECT_NE(all[0], all[1]);
      }
      CheckpointWriter writer(World(), {.directory = directory, .keep_latest = 1});
      const auto report = writer.Save(expert, state);
      ASSERT_TRUE(report.ok()) << report.status();
    };
    const Trace shares = TrainSteps(kNsaSigmoid, World(), options);
    ExpectSameBits(shares, whole, fmt::format("experts over {}", expert));
    BuiltModel alone = test::Build(kNsaSigmoid);
    AdamW optimizer(*alone.parameters, {});
    TrainingState state = TensorsOf(alone, &optimizer);
    const auto loaded = LoadCheckpoint(*self, directory, state, {});
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(StateHash(*self, state), shares.hash);
    World().Barrier().Wait();
  }
}

// Saved by ranks with shares of the weights, read by any others, and the other way round.
TEST(ShardedWeights, CheckpointsAreOfNoLayout) {
  SetNumThreads(1);
  const test::TempDir own;
  const std::string directory = BroadcastNow(World(), own.path(), 0, AfterSeconds(30));
  const auto load = [&](Communicator& comm, DType dtype, bool updates, bool values) {
    BuiltModel built = test::Build(kNsaSigmoid, dtype, test::ShardingFor(comm, updates, values));
    AdamW optimizer(*built.parameters, {});
    TrainingState state = TensorsOf(built, &optimizer);
    const auto loaded = LoadCheckpoint(comm, directory, state, {});
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return StateHash(comm, state);
  };
  int64_t step = 0;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool values : {false, true}) {
      ++step;
      const auto save = [&](BuiltModel& built, AdamW& optimizer) {
        CheckpointWriter writer(World(), {.directory = directory, .keep_latest = 1});
        const auto report = writer.Save(step, TensorsOf(built, &optimizer));
        ASSERT_TRUE(report.ok()) << report.status();
      };
      const Trace trace = TrainSteps(kNsaSigmoid, World(),
                                     {.steps = 3,
                                      .dtype = dtype,
                                      .shard_updates = true,
                                      .shard_values = values,
                                      .at_end = save});
      const auto self = MakeSelfCommunicator();
      EXPECT_EQ(load(*self, dtype, false, false), trace.hash);
      EXPECT_EQ(load(World(), dtype, false, false), trace.hash);
      EXPECT_EQ(load(World(), dtype, true, false), trace.hash);
      EXPECT_EQ(load(World(), dtype, true, true), trace.hash);
      World().Barrier().Wait();  // nobody saves, or removes the directory, before all have read
    }
  }
}

}  // namespace
}  // namespace lacuna
