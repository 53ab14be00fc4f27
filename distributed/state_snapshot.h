// StateSnapshot: a copy of a training state in host memory, from which a checkpoint is written while
// training goes on. One block, reserved once and used for every copy. A rank copies what it writes
// (ShareOf, distributed/checkpoint_writer.h), not what it has.
//
// Tensors that stand side by side in one allocation are copied at once: of flat buffers that is a
// few copies of their whole size, at the speed of the link (page-locked memory, the compute stream).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "distributed/training_state.h"

namespace lacuna {

class StateSnapshot {
 public:
  // For states whose tensors are of the shapes, and stand as those of `state` do. An error with
  // ExitCode::kHardware where there is no room: AllocateHostMemory's.
  static absl::StatusOr<StateSnapshot> Reserve(const TrainingState& state);
  static int64_t BytesFor(const TrainingState& state);

  // `state` with copies of its tensors; the host waits until they are there. They are those of the
  // last call: nobody may read what an earlier one returned.
  TrainingState Take(const TrainingState& state);

 private:
  StateSnapshot(std::shared_ptr<void> block, int64_t bytes)
      : block_(std::move(block)), bytes_(bytes) {}

  std::shared_ptr<void> block_;
  int64_t bytes_;
};

// Whether the hosts have room for a snapshot of `bytes` of each rank beside what they need otherwise.
// Collective; an error with ExitCode::kHardware on all ranks names the host that has not.
absl::Status CheckSnapshotsFit(Communicator& comm, int64_t bytes);
// What of it depends on the ranks' numbers alone.
struct SnapshotNeed {
  std::string host;
  int64_t bytes = 0;
  int64_t available = 0;  // on the host, 0 where unknown
};
absl::Status CheckSnapshotsFit(const std::vector<SnapshotNeed>& ranks);

}  // namespace lacuna
