// Checkpoints on any number of ranks: what is saved is what is loaded, and which checkpoint is
// taken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "core/io/hdf5_file.h"
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

void Save(const std::string& directory, int ranks, int64_t step, const TrainingState& state,
          int keep = 2) {
  Mailbox box;
  RunRanks(box, ranks, [&](Communicator& comm) {
    CheckpointWriter writer(
        comm, {.directory = directory, .keep_latest = keep, .recipe = "train:\n  steps: 5\n"});
    const auto report = writer.Save(step, state);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->warnings.empty()) << report->warnings[0];
    EXPECT_EQ(report->path, fmt::format("{}/step_{}", directory, step));
  });
}

struct Outcome {
  absl::Status status;
  LoadedCheckpoint loaded;
  uint64_t hash = 0;
  nlohmann::json scalars;
  std::vector<std::string> warnings;
};

// All ranks must agree; rank 0's outcome.
Outcome Load(const std::string& directory, int ranks = 1, LoadOptions options = {}) {
  std::vector<Outcome> outcomes(static_cast<size_t>(ranks));
  Mailbox box;
  RunRanks(box, ranks, [&](Communicator& comm) {
    Outcome& outcome = outcomes[static_cast<size_t>(comm.rank())];
    LoadOptions mine = options;
    mine.warn = [&](const std::string& text) { outcome.warnings.push_back(text); };
    TrainingState state = CheckpointState(-1);
    const auto loaded = LoadCheckpoint(comm, directory, state, mine);
    outcome.status = loaded.status();
    if (loaded.ok()) outcome.loaded = *loaded;
    outcome.hash = StateHash(state);
    outcome.scalars = state.scalars;
  });
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(Message(outcome.status), Message(outcomes[0].status));
    EXPECT_TRUE(!outcome.status.ok() || outcome.hash == outcomes[0].hash);
  }
  for (size_t r = 1; r < outcomes.size(); ++r) EXPECT_TRUE(outcomes[r].warnings.empty());
  return outcomes[0];
}

TEST(Checkpoint, AnyNumberOfRanksLoadsTheSameBits) {
  const TempDir dir;
  TrainingState state = CheckpointState(10);
  const uint64_t expected = StateHash(state);
  int64_t step = 10;
  int before = 0;
  for (const int ranks : {1, 2, 4, 3, 8, 1}) {
    if (before > 0) {
      // Load what the other number of ranks saved, and save that again.
      Mailbox box;
      RunRanks(box, ranks, [&](Communicator& comm) {
        TrainingState loaded = CheckpointState(-1);
        const auto result = LoadCheckpoint(comm, dir.path(), loaded, {});
        ASSERT_TRUE(result.ok()) << result.status();
        EXPECT_EQ(result->layout.at("ranks"), before);
        EXPECT_EQ(result->recipe, "train:\n  steps: 5\n");
        EXPECT_EQ(loaded.scalars, CheckpointState(10).scalars);
        for (size_t t = 0; t < state.tensors.size(); ++t)
          EXPECT_TRUE(test::SameBits(loaded.tensors[t].tensor, state.tensors[t].tensor));
      });
    }
    Save(dir.path(), ranks, ++step, state);
    const auto reader = CheckpointReader::Open(fmt::format("{}/step_{}", dir.path(), step));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ(reader->manifest().files.size(), static_cast<size_t>(ranks));
    EXPECT_EQ(*reader->StateHash(), expected);
    EXPECT_TRUE(reader->Verify().empty());
    before = ranks;
  }
}

TEST(Checkpoint, SharesAreBalancedContiguousAndComplete) {
  const TrainingState state = CheckpointState(1);
  int64_t total = 0;
  for (const TensorSlice& slice : state.tensors) total += slice.tensor.bytes();
  for (const int ranks : {1, 2, 5, 64}) {
    std::vector<int64_t> covered(state.tensors.size());
    for (int r = 0; r < ranks; ++r) {
      int64_t bytes = 0;
      for (const SharePiece& piece : PlanShare(state, r, ranks)) {
        EXPECT_EQ(piece.begin, covered[piece.slice]);
        covered[piece.slice] += piece.count;
        bytes += piece.count * SizeOf(state.tensors[piece.slice].tensor.dtype());
      }
      EXPECT_LE(std::abs(bytes - total / ranks), 16) << r << " of " << ranks;
    }
    for (size_t s = 0; s < covered.size(); ++s)
      EXPECT_EQ(covered[s], state.tensors[s].tensor.numel());
  }
}

// Parts that only one rank has, loaded as other parts.
TEST(Checkpoint, SlicesOfTheirOwnAreLoadedAsOthers) {
  const TempDir dir;
  const Tensor whole = test::RandomTensor({12, 5}, DType::kF64, 3);
  const auto part = [&](int rank, int ranks, bool fill) {
    const int64_t rows = 12 / ranks;
    TrainingState state;
    const Tensor values = whole.Slice(rank * rows, (rank + 1) * rows).Clone();
    state.tensors.push_back({.name = "experts",
                             .global_shape = {12, 5},
                             .offset = rank * rows * 5,
                             .tensor = fill ? values : Tensor::ZerosLike(values),
                             .replicas = 1});
    return state;
  };
  Mailbox box;
  RunRanks(box, 3, [&](Communicator& comm) {
    EXPECT_TRUE(
        CheckpointWriter(comm, {.directory = dir.path()}).Save(1, part(comm.rank(), 3, true)).ok());
    // A part that two ranks have is no checkpoint.
    const auto twice = CheckpointWriter(comm, {.directory = dir.path()}).Save(2, part(0, 3, true));
    EXPECT_THAT(Message(twice.status()), HasSubstr("elements [0, 20) of experts are held twice, by "
                                                   "rank_0.h5 and rank_1.h5; kept step 1"));
    const auto hole =
        CheckpointWriter(comm, {.directory = dir.path()}).Save(2, part(comm.rank(), 6, true));
    EXPECT_THAT(Message(hole.status()),
                HasSubstr("elements [30, 60) of experts are missing; kept step 1"));
  });
  EXPECT_EQ(*ListDirectory(dir.path(), ExitCode::kData),
            (std::vector<std::string>{"LATEST", "step_1"}));
  RunRanks(box, 4, [&](Communicator& comm) {
    TrainingState state = part(comm.rank(), 4, false);
    ASSERT_TRUE(LoadCheckpoint(comm, dir.path(), state, {}).ok());
    EXPECT_TRUE(
        test::SameBits(state.tensors[0].tensor, part(comm.rank(), 4, true).tensors[0].tensor));
  });
}

TEST(Checkpoint, FilesAreHdf5WithTheTensorsUnderTheirNames) {
  const TempDir dir;
  const TrainingState state = CheckpointState(4);
  Save(dir.path(), 1, 4, state);
  const auto file = Hdf5Reader::Open(dir / "step_4/rank_0.h5", ExitCode::kCheckpoint);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(*file->IntAttribute("/", "step"), 4);
  const auto dataset = file->Find("model/layers.0.ffn.weight");
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ(dataset->shape, (std::vector<int64_t>{3, 40, 24}));
  Tensor read = Tensor::Empty({3, 40, 24}, DType::kF32);
  ASSERT_TRUE(file->Read(*dataset, 0, read.numel(), read.mutable_data<float>()).ok());
  EXPECT_TRUE(test::SameBits(read, state.tensors[2].tensor));
}

TEST(Checkpoint, KeepsTheLatestAndSurvivesARewind) {
  const TempDir dir;
  const auto names = [&] { return *ListDirectory(dir.path(), ExitCode::kData); };
  for (const int64_t step : {100, 200, 300, 1000}) Save(dir.path(), 1, step, CheckpointState(step));
  EXPECT_EQ(names(), (std::vector<std::string>{"LATEST", "step_1000", "step_300"}));
  EXPECT_EQ(*ReadFile(dir / "LATEST", 100, ExitCode::kData), "step_1000\n");
  // Back to 300, on to 400 and 500: what was saved last counts, not the highest step.
  Save(dir.path(), 1, 400, CheckpointState(400));
  EXPECT_EQ(Load(dir.path()).loaded.step, 400);
  EXPECT_EQ(names(), (std::vector<std::string>{"LATEST", "step_1000", "step_300", "step_400"}));
  Save(dir.path(), 1, 500, CheckpointState(500));
  EXPECT_EQ(names(), (std::vector<std::string>{"LATEST", "step_400", "step_500"}));
  // The same step again, with other contents.
  Save(dir.path(), 1, 500, CheckpointState(501));
  EXPECT_EQ(Load(dir.path()).hash, StateHash(CheckpointState(501)));
  EXPECT_EQ(names(), (std::vector<std::string>{"LATEST", "step_400", "step_500"}));
  for (const int64_t step : {600, 700, 800}) Save(dir.path(), 1, step, CheckpointState(step), 0);
  EXPECT_EQ(names().size(), 6u);
  LoadOptions options;
  options.step = 600;
  EXPECT_EQ(Load(dir.path(), 1, options).hash, StateHash(CheckpointState(600)));
}

TEST(Checkpoint, DifferencesAreListed) {
  const TempDir dir;
  Save(dir.path(), 2, 1, CheckpointState(1));
  Mailbox box;
  RunRanks(box, 2, [&](Communicator& comm) {
    TrainingState state;
    state.Add("model/embedding.weight", Tensor::Zeros({62, 24}, DType::kF32));
    state.Add("model/router.bias", Tensor::Zeros({7}, DType::kF32));
    state.Add("model/new", Tensor::Zeros({7}, DType::kF32));
    LoadOptions options;
    options.unused_groups = {"model/", "adamw", "data/"};
    const absl::Status status = LoadCheckpoint(comm, dir.path(), state, options).status();
    EXPECT_EQ(Message(status),
              dir /
                  "step_1: does not fit the run, 3 tensors differ:\n"
                  "  model/embedding.weight: f32 [61, 24] in the checkpoint, f32 [62, 24] in the "
                  "run\n"
                  "  model/router.bias: f64 [7] in the checkpoint, f32 [7] in the run\n"
                  "  model/new: not in the checkpoint, f32 [7] in the run");
    EXPECT_EQ(ExitCodeOf(status), ExitCode::kCheckpoint);
    TrainingState few;
    few.Add("model/router.bias", Tensor::Zeros({7}, DType::kF64));
    const std::string all = Message(LoadCheckpoint(comm, dir.path(), few, {}).status());
    EXPECT_THAT(all, HasSubstr("does not fit the run, 15 tensors differ:\n"
                               "  adamw.m/embedding.weight: f32 [61, 24] in the checkpoint, not in "
                               "the run\n  adamw.m/layers.0.ffn.weight: "));
    EXPECT_THAT(all, HasSubstr("\n  and 7 more"));
    // Without the moments is a choice; without some of the weights is a mistake.
    LoadOptions weights_only;
    weights_only.unused_groups = {"adamw"};
    EXPECT_THAT(
        Message(LoadCheckpoint(comm, dir.path(), few, weights_only).status()),
        HasSubstr("model/embedding.weight: f32 [61, 24] in the checkpoint, not in the run"));
    EXPECT_TRUE(LoadCheckpoint(comm, dir.path(), few, options).ok());
    EXPECT_TRUE(test::SameBits(few.tensors[0].tensor, CheckpointState(1).tensors[12].tensor));
  });
}

void SetVersion(const std::string& path, int64_t version) {
  test::EditManifest(path, [&](nlohmann::json& body) { body["version"] = version; });
}

TEST(Checkpoint, OtherFormatVersionsAreRefusedNotPassedOver) {
  const TempDir dir;
  Save(dir.path(), 1, 1, CheckpointState(1));
  Save(dir.path(), 1, 2, CheckpointState(2));
  SetVersion(dir / "step_2/MANIFEST.json", kCheckpointVersion);
  EXPECT_EQ(Load(dir.path(), 2).loaded.step, 2) << "rewriting the manifest alone changes nothing";
  SetVersion(dir / "step_2/MANIFEST.json", kCheckpointVersion + 2);
  EXPECT_EQ(
      Message(Load(dir.path(), 2).status),
      dir /
          "step_2/MANIFEST.json: format 4 > supported 2: written by a newer lacuna, use that one");
  SetVersion(dir / "step_2/MANIFEST.json", 0);
  EXPECT_EQ(Message(Load(dir.path()).status),
            dir / "step_2/MANIFEST.json: format 0 < supported 1: too old to be read");
}

TEST(Checkpoint, NothingThereIsAnError) {
  const TempDir dir;
  EXPECT_EQ(Message(Load(dir.path(), 2).status), dir.path() + ": no complete checkpoint");
  EXPECT_EQ(Message(Load(dir / "none").status),
            dir / "none: cannot list: No such file or directory");
  LoadOptions options;
  options.step = 7;
  EXPECT_EQ(Message(Load(dir.path(), 1, options).status),
            dir / "step_7/MANIFEST.json: cannot open: No such file or directory");
}

TEST(Checkpoint, ADeadPeerEndsTheSaveAtItsDeadline) {
  const TempDir dir;
  Save(dir.path(), 1, 1, CheckpointState(1));
  Mailbox box;
  RunRanks(box, 3, [&](Communicator& comm) {
    if (comm.rank() == 1) return;
    CheckpointWriter writer(comm, {.directory = dir.path(), .deadline_seconds = 0.3});
    try {
      (void)writer.Save(2, CheckpointState(2));
      ADD_FAILURE() << "saved without rank 1";
    } catch (const CommunicationError& error) {
      EXPECT_NE(std::string(error.what()).find("nothing from rank 1 within 0."), std::string::npos)
          << error.what();
    }
  });
  EXPECT_EQ(Load(dir.path()).loaded.step, 1);
}

TEST(Checkpoint, RemovesWhatKilledSavesLeft) {
  const TempDir dir;
  Save(dir / "ckpt", 1, 1, CheckpointState(1));
  for (const char* name : {"ckpt/step_2.tmp.0123", "ckpt/step_1.tmp.removed", "ckpt/notes.tmp.x"})
    ASSERT_TRUE(MakeDirectories(dir / name, ExitCode::kData).ok());
  // A replacement without exchange that was killed between its two renames.
  ASSERT_TRUE(
      RenamePath(dir / "ckpt/step_1", dir / "ckpt/step_1.tmp.ab.replaced", ExitCode::kData).ok());
  ASSERT_TRUE(WriteFileDurably(dir / "ckpt/LATEST.tmp.77", "step", ExitCode::kData).ok());
  const auto lock = RunLock::Acquire(dir.path());
  ASSERT_TRUE(lock.ok());
  const auto comm = MakeSelfCommunicator();
  ASSERT_TRUE(CheckpointWriter(*comm, {.directory = dir / "ckpt"}).RemoveStale(*lock).ok());
  EXPECT_EQ(*ListDirectory(dir / "ckpt", ExitCode::kData),
            (std::vector<std::string>{"LATEST", "notes.tmp.x", "step_1"}));
  EXPECT_EQ(Load(dir / "ckpt").loaded.step, 1);
}

}  // namespace
}  // namespace lacuna
