// A Communicator that compares every collective among its ranks before it starts, for a run that
// hangs or goes wrong: name, dtype, shape, kind of device, root and numbers of rows. Ranks that
// differ get a CommunicationError that names them, what each calls and where:
//
//   rank 0 of 4: collective #12 of world differs among ranks: rank 2 calls broadcast f32 [100] from
//   0 on cpu (step 7); ranks 0, 1, 3 call all_reduce_sum f32 [100] on cpu (step 7, layer 3 ffn)
//
// Each call waits for all ranks, so nothing overlaps any more, and ranks that launch collectives of
// several communicators in orders that differ wait for each other until the timeout.
#pragma once

#include <memory>

#include "distributed/communicator.h"

namespace lacuna {

std::shared_ptr<Communicator> MakeCheckedCommunicator(std::shared_ptr<Communicator> inner);

// Whether the environment has LACUNA_CHECK_COLLECTIVES=1.
bool ChecksCollectives();

}  // namespace lacuna
