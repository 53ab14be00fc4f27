// Which GPU each rank of a run takes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/communicator.h"

namespace lacuna {

// What a rank sees of its host.
struct RankDevices {
  std::string host;
  std::vector<std::string> ids;  // of the cards, in the order of their numbers on this rank
};

// The number of the card that `rank` takes: the k-th rank of a host takes the k-th card that it
// sees, or starts again from the first. A configuration error where two ranks of a host would take
// the same card, unless may_share. Launchers that show each rank a card of its own are understood.
absl::StatusOr<int> AssignDevice(const std::vector<RankDevices>& ranks, int rank, bool may_share);

// The same for this rank; every rank of `comm` calls it, and all have an error where one has. Ranks
// may share cards where the environment has NCCL_MULTI_RANK_GPU_ENABLE=1 (NCCL 2.30 and later) and
// where GPU tensors are staged (distributed/device_communicator.h).
absl::StatusOr<int> AssignDevice(Communicator& comm);

}  // namespace lacuna
