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

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/checkpoint_manifest.h"
#include "distributed/communicator.h"
#include "distributed/run_lock.h"
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

 private:
  absl::StatusOr<std::string> MakeTemporary(int64_t step, int64_t bytes);
  absl::Status WriteShare(const std::string& directory, int64_t step, const TrainingState& state,
                          std::string* record) const;
  absl::Status Commit(const std::string& temporary, int64_t step, const TrainingState& state,
                      const std::vector<std::string>& records, SaveReport* report);
  void RemoveOld(int64_t step, SaveReport* report) const;
  absl::Status Describe(const absl::Status& failure, int64_t step, int64_t bytes) const;

  Communicator& comm_;
  CheckpointOptions options_;
  bool renamed_ = false;  // the attempt under way has its final name
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

}  // namespace lacuna
