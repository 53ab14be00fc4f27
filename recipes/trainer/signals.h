// SIGTERM, SIGINT and SIGUSR1 ask a run to save and stop at the next step; a second one ends it at
// once.
#pragma once

#include "distributed/communicator.h"

namespace lacuna {

// Installs the handlers for the program's life. A second signal exits with 128 + its number,
// touching nothing on disk.
void InstallStopSignals();
// The signal that asked to stop, 0 for none.
int StopSignal();
// The same on every rank: a signal that some rank has received, 0 where none has. Collective.
int StopSignalOfAnyRank(Communicator& comm);

}  // namespace lacuna
