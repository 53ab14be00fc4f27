// A Communicator for tensors of a device over one that knows the CPU only: GPU tensors go through
// pinned host memory. Everything else is the host communicator's.
//
// A collective of GPU tensors is downloaded behind what the compute stream has been given so far,
// then done by the host communicator, then uploaded; each step begins when a poll finds the one
// before it done, and no call waits. When the request is done (Poll or Wait), what is launched on
// the compute stream afterwards finds the result. Sums are the host communicator's, in rank order
// and in f64: the same bits as on the CPU.
#pragma once

#include <memory>

#include "distributed/communicator.h"
#include "distributed/staged_copies.h"

namespace lacuna {

// Every rank of `host` calls it: the staged collectives have a communicator of their own, split off
// `host`, so that they need no order against those of CPU tensors. Throws CommunicationError.
std::unique_ptr<Communicator> MakeStagedCommunicator(std::shared_ptr<Communicator> host,
                                                     std::shared_ptr<StagedCopies> copies);

}  // namespace lacuna
