// BackgroundSave: a checkpoint written by a thread of its own while training goes on. What it writes
// is what CheckpointWriter::Save writes, byte for byte but for the time in the manifest.
//
//   Begin     the temporary directory, the snapshot; the thread starts to write this rank's files
//   Advance   once every rank's files are there: the ranks' records meet, and rank 0's thread writes
//             the manifest, renames, sets LATEST and removes older checkpoints
//   Advance   once that is done: all ranks agree on the outcome
//
// Collectives are this object's caller's alone, so that one thread of a rank uses the communicator:
// at the border of a step the ranks exchange Ready() with what they exchange anyway, and where all
// are, all call Advance. A kill at any time leaves what a kill of Save leaves.
#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "distributed/checkpoint_writer.h"
#include "distributed/state_snapshot.h"

namespace lacuna {

class BackgroundSave {
 public:
  // `writer` must outlive this.
  explicit BackgroundSave(CheckpointWriter& writer) : writer_(writer) {}
  // A save under way is given up: its thread is stopped, the next start removes what it leaves.
  ~BackgroundSave();

  bool under_way() const { return attempt_.has_value(); }
  // Collective, with no save under way; CheckpointWriter::Begin's errors. Copies this rank's share of
  // `state`, which may change afterwards; the snapshot, reserved for such a share, is this save's
  // until it is done. Sets *copy_seconds.
  absl::Status Begin(int64_t step, const TrainingState& state, StateSnapshot& snapshot,
                     double* copy_seconds);
  // Whether this rank's thread is through with its phase; true where no save is under way.
  bool Ready() const;
  // Collective, where every rank is Ready. The outcome where the save is done with that, the same on
  // every rank; its `seconds` are those of this rank's thread. What a thread threw is thrown here.
  std::optional<absl::StatusOr<SaveReport>> Advance();
  // Collective: waits. With a save under way.
  absl::StatusOr<SaveReport> Finish();

 private:
  // `work` on a thread, serial: the cores are training's.
  void Start(std::function<absl::Status()> work);

  CheckpointWriter& writer_;
  // Of the save under way. The thread reads and writes them from its start until its future is
  // ready.
  std::optional<SaveAttempt> attempt_;
  TrainingState state_;
  std::string record_;
  std::vector<std::string> records_;
  double work_seconds_ = 0;
  bool committing_ = false;
  std::atomic<bool> stop_ = false;
  std::future<absl::Status> work_;  // invalid where this rank has nothing to do
};

}  // namespace lacuna
