// The communicator of a run, as its tensors' device asks for.
#pragma once

#include <memory>

#include "distributed/communicator.h"

namespace lacuna {

// Whether GPU tensors are NCCL's: in a build with NCCL, unless the environment has
// LACUNA_GPU_COLLECTIVES=staged.
bool UsesNccl();

// `host` for tensors of `device`, too: NCCL's or the staged communicator before it on a card, `host`
// itself on the CPU and on one rank; with LACUNA_CHECK_COLLECTIVES=1 the checks before all
// (distributed/checked_communicator.h). Every rank of `host` calls it with its own device; throws
// CommunicationError.
std::shared_ptr<Communicator> ForDevice(std::shared_ptr<Communicator> host, Device device);

}  // namespace lacuna
