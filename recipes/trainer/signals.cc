#include "recipes/trainer/signals.h"

#include <unistd.h>

#include <csignal>
#include <initializer_list>
#include <vector>

#include "recipes/trainer/training_step.h"

namespace lacuna {
namespace {

volatile std::sig_atomic_t stop_signal = 0;

void OnSignal(int signal) {
  if (stop_signal != 0) _exit(128 + signal);
  stop_signal = signal;
}

}  // namespace

void InstallStopSignals() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) sigaction(signal, &action, nullptr);
}

int StopSignal() {
  return stop_signal;
}

StepBorder MeetAtBorder(Communicator& comm, bool ready) {
  std::vector<double> seen(32, 0.0);
  seen[0] = ready ? 1 : 0;  // no signal has number 0
  if (StopSignal() != 0) seen[static_cast<size_t>(StopSignal())] = 1;
  SumOverRanks(comm, &seen);
  StepBorder border{.all_ready = seen[0] == comm.size()};
  for (size_t s = 1; s < seen.size() && border.signal == 0; ++s) {
    if (seen[s] > 0) border.signal = static_cast<int>(s);
  }
  return border;
}

}  // namespace lacuna
