// CheckpointWriter: saves a TrainingState so that after a kill at any instant the directory still
// holds a complete checkpoint.
//
//   step_N.tmp.<id>/  every rank writes its share to rank_r.h5, hashing on the way, and its block
//                     hashes to rank_r.xxh3; fsync
//                     rank 0 gathers {size, hash, index} and writes MANIFEST.json (temporary file,
//                       fsync, rename); fsync directory
//   step_N/           by rename (a step that is saved again is exchanged in one step); fsync of the
//     parent directory
//   LATEST            "step_N\n" (temporary file, fsync, rename); only now older checkpoints go
//
// Every element is written once. The ranks that have the same pieces share them by bytes: their list
// is cut into contiguous parts of equal size, also within a tensor.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/checkpoint_manifest.h"
#include "distributed/communicator.h"
#include "distributed/run_lock.h"
#include "distributed/steady_clock.h"
#include "distributed/training_state.h"

namespace lacuna {

struct CheckpointOptions {
  std::string directory;  // e.g. "runs/a/ckpt"; made if need be, the same for all ranks
  int keep_latest = 2;    // complete checkpoints that stay; 0 keeps all
  double deadline_seconds = 1800;
  std::string recipe = {};  // its text, stored in the manifest
  // What the manifest's layout says beside the number of ranks, e.g. {"expert": 4, "zero": 2}.
  nlohmann::json layout = nlohmann::json::object();
};

struct SaveReport {
  int64_t step = 0;
  int64_t bytes = 0;        // all ranks
  uint64_t state_hash = 0;  // StateHash of what was saved
  double seconds = 0;
  std::string path = {};
  // The checkpoint is safe, but LATEST or an older checkpoint could not be dealt with: one line
  // each, on rank 0.
  std::vector<std::string> warnings = {};
};

// A save between its first phase and its last.
struct SaveAttempt {
  SaveReport report;
  std::string directory;  // step_N.tmp.<id>
  SteadyClock::time_point begin;
  bool renamed = false;  // it has its final name
};

class CheckpointWriter {
 public:
  CheckpointWriter(Communicator& comm, CheckpointOptions options);

  // Removes what killed saves left behind. Only for the owner of the run, before its first save.
  absl::Status RemoveStale(const RunLock& lock);

  // Collective. Every rank returns the same outcome; on failure nothing is left of the attempt,
  // older checkpoints are as they were and training can go on: "checkpoint step 1200 failed: No
  // space left on device (need 41.2 GB, free 3.1 GB); kept step 1000".
  // (Where only the last flush of the directory fails, the new checkpoint stays beside the old ones
  // and the message says so.) Throws CommunicationError where a rank does not answer within the
  // deadline.
  absl::StatusOr<SaveReport> Save(int64_t step, const TrainingState& state);

  // Save's phases, for who does the long ones on another thread (distributed/background_save.h).
  // Begin, GatherRecords and End are collective, have Save's failures and take no time to speak of;
  // the others use no communicator.
  absl::StatusOr<SaveAttempt> Begin(int64_t step, const TrainingState& state);
  // This rank's files. `record` is what the manifest says of them. Ends early, with an error, once
  // *stop is true (`stop` may be null).
  absl::Status WriteShare(const SaveAttempt& attempt, const TrainingState& state,
                          const std::atomic<bool>* stop, std::string* record) const;
  absl::StatusOr<std::vector<std::string>> GatherRecords(const SaveAttempt& attempt,
                                                         const absl::Status& written,
                                                         const std::string& record);
  // On rank 0: the manifest, the final name, LATEST; older checkpoints go.
  absl::Status Commit(const TrainingState& state, const std::vector<std::string>& records,
                      SaveAttempt* attempt) const;
  absl::StatusOr<SaveReport> End(SaveAttempt attempt, const absl::Status& committed);

  int rank() const { return rank_; }
  // This rank's (below).
  TrainingState ShareOf(const TrainingState& state) const;

 private:
  absl::StatusOr<std::string> MakeTemporary(int64_t step, int64_t bytes) const;
  void RemoveOld(int64_t step, SaveReport* report) const;
  // The first rank's failure on all of them, and the attempt removed; OK where there is none.
  absl::Status Agree(const SaveAttempt& attempt, const absl::Status& mine);
  absl::Status Describe(const absl::Status& failure, const SaveAttempt& attempt) const;

  Communicator& comm_;
  const int rank_, size_;
  CheckpointOptions options_;
};

// A part of one slice that this rank writes: elements [begin, begin + count) of the slice's tensor.
struct SharePiece {
  size_t slice = 0;
  int64_t begin = 0;
  int64_t count = 0;
};
// What `rank` of `size` ranks writes of its list; the parts of all ranks together are every element
// once.
std::vector<SharePiece> PlanShare(const TrainingState& state, int rank, int size);
// The same as a state: views of these parts, of which no other rank has a copy, and the names of
// what others write. A save of all ranks' shares is a save of `state`.
TrainingState ShareOf(const TrainingState& state, int rank, int size);

}  // namespace lacuna
