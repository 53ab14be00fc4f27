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

// What the ranks tell each other at the border of a step; the same on every rank.
struct StepBorder {
  int signal = 0;          // one that some rank has received, 0 where none has
  bool all_ready = false;  // every rank was `ready`
};
// Collective, one sum.
StepBorder MeetAtBorder(Communicator& comm, bool ready);

}  // namespace lacuna
