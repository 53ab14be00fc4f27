// Save and load over MPI: what other tests do with ranks as threads, done by real processes.
#include <gtest/gtest.h>

#include "tests/distributed/checkpoint_case.h"
#include "tests/support/mpi_world.h"
#include "tests/support/temp_dir.h"

namespace lacuna {
namespace {

using test::CheckpointState;
using test::World;

TEST(CheckpointMpi, RanksShareTheWorkAndLoadTheSameBits) {
  const test::TempDir own;
  const std::string directory = BroadcastNow(World(), own.path(), 0, AfterSeconds(30));
  CheckpointWriter writer(World(),
                          {.directory = directory, .keep_latest = 1, .deadline_seconds = 60});
  for (const int64_t step : {5, 6}) {
    const auto report = writer.Save(step, CheckpointState(step));
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_TRUE(report->warnings.empty());
  }
  const auto reader = CheckpointReader::Open(directory + "/step_6");
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ(reader->manifest().files.size(), static_cast<size_t>(World().size()));
  EXPECT_FALSE(CheckpointReader::Open(directory + "/step_5").ok());
  TrainingState state = CheckpointState(-1);
  const auto loaded = LoadCheckpoint(World(), directory, state, {});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->step, 6);
  EXPECT_EQ(StateHash(state), StateHash(CheckpointState(6)));
  EXPECT_EQ(*reader->StateHash(), StateHash(state));
  EXPECT_EQ(state.scalars, CheckpointState(6).scalars);
  World().Barrier().Wait();  // nobody removes the directory before all have read it
}

TEST(CheckpointMpi, AFailureOfRankZeroIsEveryRanksFailure) {
  const test::TempDir own;
  const std::string directory = BroadcastNow(World(), own.path(), 0, AfterSeconds(30));
  const std::string file = directory + "/file";
  if (World().rank() == 0) {
    ASSERT_TRUE(WriteFileDurably(file, "", ExitCode::kData).ok());
  }
  World().Barrier().Wait();
  CheckpointWriter writer(World(), {.directory = file + "/ckpt", .deadline_seconds = 60});
  const auto report = writer.Save(1, CheckpointState(1));
  EXPECT_EQ(Message(report.status()),
            "checkpoint step 1 failed: " + file +
                "/ckpt: cannot create the directory: Not a directory; no earlier checkpoint");
  World().Barrier().Wait();
}

}  // namespace
}  // namespace lacuna
