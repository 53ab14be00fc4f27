// SIGTERM, SIGINT and SIGUSR1 ask a run to save and stop at the next step; a second one ends it at
// once.
#pragma once

namespace lacuna {

// Installs the handlers for the program's life. A second signal exits with 128 + its number,
// touching nothing on disk.
void InstallStopSignals();
// The signal that asked to stop, 0 for none.
int StopSignal();

}  // namespace lacuna
