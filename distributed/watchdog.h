// Watchdog: finds out which rank is to blame for a collective that is not done.
//
// Each rank has a thread that answers questions about its collectives (UDP, so that neither MPI nor
// the rank's main thread is needed), and that sees a collective which runs on the device for longer
// than the timeout, for which no thread of the host waits. A rank whose wait times out asks all
// others; its CommunicationError then says which of them do not answer, have not come to the
// collective or have another one in its place, with their step and layer (distributed/hang_report.h).
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "distributed/communicator.h"

namespace lacuna {

class Watchdog {
 public:
  // Every rank of `world` calls it; until it is destroyed, it answers for all that is split off or
  // put before `world`, which must outlive it. `on_hang` is called by the watchdog's thread when a
  // device has run a collective for longer than the timeout; it should end the run. Throws
  // CommunicationError. With one rank there is nothing to watch.
  Watchdog(Communicator& world, std::function<void(const std::string&)> on_hang);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace lacuna
