// Saves in the background: what is written is what a save at once writes, training's changes do not
// reach it, failures are every rank's, and what is given up leaves the checkpoints before it.
#include "distributed/background_save.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "tests/distributed/checkpoint_case.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/compare.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::CheckpointState;
using test::Mailbox;
using test::RunRanks;
using test::TempDir;
using testing::HasSubstr;

// Two saves one after the other from one block, each advanced at the borders of steps as a run does.
class Rank {
 public:
  Rank(Communicator& comm, const std::string& directory)
      : comm_(comm),
        writer_(comm, {.directory = directory, .keep_latest = 2}),
        snapshot_(*StateSnapshot::Reserve(writer_.ShareOf(CheckpointState(0)))),
        save_(writer_) {}

  absl::Status Begin(int64_t step) {
    TrainingState state = CheckpointState(step);
    double copy_seconds = -1;
    const absl::Status begun = save_.Begin(step, state, snapshot_, &copy_seconds);
    EXPECT_EQ(begun.ok(), copy_seconds >= 0);
    for (TensorSlice& slice : state.tensors) slice.tensor.Zero();
    state.scalars.clear();
    return begun;
  }
  // The outcome, once the save is done; counts the borders at which all were ready.
  absl::StatusOr<SaveReport> Train(int* advances) {
    while (true) {
      Tensor ready = Tensor::FromVector(std::vector<double>{save_.Ready() ? 1.0 : 0.0}, {1});
      comm_.AllReduceSum(ready).Wait();
      if (ready.ToDoubles()[0] < comm_.size()) continue;
      ++*advances;
      if (auto outcome = save_.Advance()) return *std::move(outcome);
    }
  }
  BackgroundSave& save() { return save_; }
  CheckpointWriter& writer() { return writer_; }

 private:
  Communicator& comm_;
  CheckpointWriter writer_;
  StateSnapshot snapshot_;
  BackgroundSave save_;
};

// All that a manifest says but when it was written.
nlohmann::json ManifestOf(const std::string& path) {
  const std::string text = *ReadFile(path + "/MANIFEST.json", 1 << 20, ExitCode::kData);
  const size_t begin = text.find('\n') + 1;
  auto manifest =
      nlohmann::json::parse(text.substr(begin, text.rfind('\n', text.size() - 2) - begin));
  manifest.erase("created");
  return manifest;
}

TEST(BackgroundSave, WritesWhatASaveAtOnceWrites) {
  for (const int ranks : {1, 2, 4}) {
    const TempDir at_once, background;
    Mailbox box;
    RunRanks(box, ranks, [&](Communicator& comm) {
      Rank rank(comm, background.path());
      CheckpointWriter writer(comm, {.directory = at_once.path(), .keep_latest = 2});
      for (const int64_t step : {3, 4, 5}) {
        int advances = 0;
        ASSERT_TRUE(rank.Begin(step).ok());
        EXPECT_TRUE(rank.save().under_way());
        const auto report = rank.Train(&advances),
                   expected = writer.Save(step, CheckpointState(step));
        ASSERT_TRUE(report.ok() && expected.ok()) << report.status() << expected.status();
        EXPECT_EQ(advances, 2);
        EXPECT_FALSE(rank.save().under_way());
        EXPECT_EQ(report->state_hash, expected->state_hash);
        EXPECT_EQ(report->state_hash, StateHash(CheckpointState(step)));
        EXPECT_EQ(report->bytes, expected->bytes);
        EXPECT_TRUE(report->warnings.empty());
      }
    });
    for (const char* step : {"/step_4", "/step_5"})
      EXPECT_EQ(ManifestOf(background.path() + step), ManifestOf(at_once.path() + step)) << ranks;
    EXPECT_EQ(*ListDirectory(background.path(), ExitCode::kData),
              (std::vector<std::string>{"LATEST", "step_4", "step_5"}));
    const auto reader = CheckpointReader::Open(background.path() + "/step_5");
    ASSERT_TRUE(reader.ok());
    EXPECT_TRUE(reader->Verify().empty());
  }
}

TEST(BackgroundSave, FinishWaits) {
  const TempDir dir;
  Mailbox box;
  RunRanks(box, 3, [&](Communicator& comm) {
    Rank rank(comm, dir.path());
    EXPECT_TRUE(rank.save().Ready());
    EXPECT_FALSE(rank.save().Advance().has_value());
    ASSERT_TRUE(rank.Begin(8).ok());
    const auto report = rank.save().Finish();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->state_hash, StateHash(CheckpointState(8)));
    EXPECT_GT(report->seconds, 0);
  });
}

// Files cannot grow while it lasts.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit less{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &less);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(BackgroundSave, AFailureIsEveryRanksAndNamesTheFile) {
  const TempDir dir;
  Mailbox box;
  RunRanks(box, 2, [&](Communicator& comm) {
    Rank rank(comm, dir.path());
    ASSERT_TRUE(rank.Begin(1).ok());
    ASSERT_TRUE(rank.save().Finish().ok());
    int advances = 0;
    absl::Status failed;
    {
      comm.Barrier().Wait();
      const FullDisk full(4096);
      comm.Barrier().Wait();
      ASSERT_TRUE(rank.Begin(2).ok());
      failed = rank.Train(&advances).status();
      comm.Barrier().Wait();
    }
    EXPECT_EQ(ExitCodeOf(failed), ExitCode::kCheckpoint);
    EXPECT_THAT(
        Message(failed),
        testing::MatchesRegex("checkpoint step 2 failed: .*/step_2\\.tmp\\.[0-9a-f]+/rank_0\\.h5: "
                              ".*File too large; kept "
                              "step 1"));
    EXPECT_EQ(advances, 1);
    EXPECT_FALSE(rank.save().under_way());
    // The next one is as good as any.
    comm.Barrier().Wait();
    ASSERT_TRUE(rank.Begin(3).ok());
    EXPECT_TRUE(rank.save().Finish().ok());
  });
  EXPECT_EQ(*ListDirectory(dir.path(), ExitCode::kData),
            (std::vector<std::string>{"LATEST", "step_1", "step_3"}));
}

TEST(BackgroundSave, WhatTheThreadThrowsIsThrownAtTheNextStep) {
  const TempDir dir;
  const auto comm = MakeSelfCommunicator();
  CheckpointWriter writer(*comm, {.directory = dir.path()});
  TrainingState state = CheckpointState(1);
  state.tensors[0].offset = 1;
  auto snapshot = StateSnapshot::Reserve(state);
  ASSERT_TRUE(snapshot.ok());
  BackgroundSave save(writer);
  double copy_seconds = 0;
  ASSERT_TRUE(save.Begin(1, state, *snapshot, &copy_seconds).ok());
  EXPECT_THROW(static_cast<void>(save.Finish()), Error);
}

TEST(BackgroundSave, ASaveThatIsGivenUpLeavesTheOneBefore) {
  const TempDir dir;
  Mailbox box;
  const std::string checkpoints = dir / "ckpt";
  RunRanks(box, 2, [&](Communicator& comm) {
    Rank rank(comm, checkpoints);
    ASSERT_TRUE(rank.Begin(1).ok());
    ASSERT_TRUE(rank.save().Finish().ok());
    ASSERT_TRUE(rank.Begin(2).ok());
  });
  const auto comm = MakeSelfCommunicator();
  TrainingState state = CheckpointState(-1);
  const auto loaded = LoadCheckpoint(*comm, checkpoints, state, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->step, 1);
  EXPECT_EQ(ListDirectory(checkpoints, ExitCode::kData)->size(), 3u);
  CheckpointWriter writer(*comm, {.directory = checkpoints});
  auto lock = RunLock::Acquire(dir.path());
  ASSERT_TRUE(lock.ok() && writer.RemoveStale(*lock).ok());
  EXPECT_EQ(*ListDirectory(checkpoints, ExitCode::kData),
            (std::vector<std::string>{"LATEST", "step_1"}));
}

// Views of flat buffers, out of order, with padding between them, and tensors of their own.
TEST(StateSnapshot, CopiesFlatBuffersAtOnceAndKeepsEveryView) {
  const Tensor flat = test::RandomTensor({1000}, DType::kF32, 1),
               other = test::RandomTensor({300}, DType::kBF16, 2);
  TrainingState state;
  state.Add("b", flat.View(512, {20, 10}));
  state.Add("a", flat.View(16, {400}));
  state.Add("c", other.View(100, {200}));
  state.Add("none", Tensor::Zeros({0, 3}, DType::kF32));
  state.Add("alone", test::RandomTensor({7}, DType::kI64, 3));
  state.scalars = {{"step", 7}};
  // From the first element of the flat buffer's views to the last, and what else there is.
  EXPECT_GE(StateSnapshot::BytesFor(state), (712 - 16) * 4 + 400 + 56);
  EXPECT_LE(StateSnapshot::BytesFor(state), (712 - 16) * 4 + 400 + 56 + 2 * 256);
  auto snapshot = StateSnapshot::Reserve(state);
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  std::vector<Tensor> before;
  for (const TensorSlice& slice : state.tensors) before.push_back(slice.tensor.Clone());
  const TrainingState copy = snapshot->Take(state);
  EXPECT_EQ(copy.scalars, state.scalars);
  for (TensorSlice& slice : state.tensors) slice.tensor.Zero();
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(copy.tensors[i].name, state.tensors[i].name);
    EXPECT_TRUE(test::SameBits(copy.tensors[i].tensor, before[i])) << copy.tensors[i].name;
  }
  // The block outlives the object as long as somebody looks at it, and takes the next state.
  const TrainingState zeros = snapshot->Take(state);
  snapshot = absl::CancelledError();
  EXPECT_TRUE(test::SameBits(zeros.tensors[1].tensor, state.tensors[1].tensor));
}

// Of one flat buffer that all ranks have, each reserves and copies its part.
TEST(StateSnapshot, HoldsWhatTheRankWrites) {
  constexpr int kRanks = 4;
  const Tensor flat = test::RandomTensor({4096}, DType::kF32, 1);
  TrainingState state;
  state.Add("a", flat.View(0, {30, 100}));
  state.Add("b", flat.View(3008, {1088}));
  std::vector<int64_t> covered(state.tensors.size());
  for (int rank = 0; rank < kRanks; ++rank) {
    const TrainingState share = ShareOf(state, rank, kRanks);
    EXPECT_LE(StateSnapshot::BytesFor(share), 4096 * 4 / kRanks + 256);
    auto snapshot = StateSnapshot::Reserve(share);
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    const TrainingState copy = snapshot->Take(share);
    for (size_t i = 0; i < copy.tensors.size(); ++i) {
      const TensorSlice& piece = copy.tensors[i];
      if (piece.tensor.numel() == 0) continue;
      EXPECT_EQ(piece.offset, covered[i]);
      covered[i] += piece.tensor.numel();
      EXPECT_TRUE(test::SameBits(piece.tensor,
                                 state.tensors[i].tensor.View(piece.offset, piece.tensor.shape())));
    }
  }
  EXPECT_EQ(covered, (std::vector<int64_t>{3000, 1088}));
}

TEST(StateSnapshot, TheRanksOfAHostNeedRoomTogether) {
  constexpr int64_t kGib = int64_t{1} << 30;
  const auto check = [](std::vector<SnapshotNeed> ranks) {
    const absl::Status status = CheckSnapshotsFit(ranks);
    return status.ok() ? "" : Message(status);
  };
  EXPECT_EQ(check({{"a", 40 * kGib, 100 * kGib}, {"a", 40 * kGib, 100 * kGib}}), "");
  EXPECT_EQ(check({{"a", 40 * kGib, 100 * kGib}, {"b", 90 * kGib, 100 * kGib}}), "");
  EXPECT_EQ(check({{"a", 46 * kGib, 100 * kGib}, {"b", 1, kGib}, {"a", 46 * kGib, 101 * kGib}}),
            "copies of the state of 2 ranks take 92.00 GiB of the memory of a, 100.00 GiB are "
            "available");
  EXPECT_EQ(check({{"a", 40 * kGib, 0}}), "");  // nobody knows
}

}  // namespace
}  // namespace lacuna
