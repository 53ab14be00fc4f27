// Commands that run on all ranks of a launcher.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "distributed/communicator.h"

namespace lacuna::tools {

// The launcher's numbers, known before anything is initialised: a bad recipe ends the program before
// MPI starts.
struct LaunchedRank {
  int64_t rank = 0, ranks = 1, local_ranks = 1;
};
LaunchedRank FromLauncher();

// `threads`, or where that is 0 OMP_NUM_THREADS, or this rank's share of the host's cores.
void UseThreads(int64_t threads, const LaunchedRank& launched);

// The status on rank 0, elsewhere only its exit code: one line for all ranks.
absl::Status FromLeader(const absl::Status& status, int64_t rank);
// The same of ranks that MPI does not connect yet. A launcher ends all of them when one has failed, and
// loses what they were about to say: the others leave rank 0 a second for its line.
absl::Status FromUnconnectedLeader(const absl::Status& status, int64_t rank);

// `work` on every rank, watched for hangs (MakeCommunicator's timeout). What it throws is printed and
// ends all ranks; the status is FromLeader's.
absl::Status OnRanks(const std::function<absl::Status(const std::shared_ptr<Communicator>&)>& work,
                     double timeout_seconds = kDefaultTimeoutSeconds);

}  // namespace lacuna::tools
