#include "distributed/nccl_handle.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <thread>

namespace lacuna {
namespace {

// One algorithm, whose order of addition is a function of the size, the ranks and the machine.
// What the user set stays.
void PinAlgorithm() {
  ::setenv("NCCL_ALGO", "Ring", /*overwrite=*/0);
  ::setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/0);
}

// Ranks may share this core, and NCCL works in threads of its own.
void Rest(int spins) {
  if (spins < 200) {
    ::sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

}  // namespace

NcclHandle::NcclHandle(Communicator& host) : host_(host) {
  PinAlgorithm();
  ncclUniqueId id = {};
  std::string mine;
  if (host.rank() == 0) {
    if (const ncclResult_t result = ncclGetUniqueId(&id); result != ncclSuccess)
      Fail("ncclGetUniqueId", ErrorText(result));
    mine.assign(id.internal, sizeof(id.internal));
  }
  const std::string all = BroadcastNow(host, mine, 0, AfterSeconds(host.timeout_seconds()));
  std::memcpy(id.internal, all.data(), std::min(all.size(), sizeof(id.internal)));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  Settle("ncclCommInitRankConfig",
         ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config));
}

NcclHandle::~NcclHandle() {
  if (comm_ == nullptr) return;
  try {
    if (std::uncaught_exceptions() == 0) {
      Settle("ncclCommFinalize", ncclCommFinalize(comm_));
      ncclCommDestroy(comm_);
      comm_ = nullptr;
    }
  } catch (const CommunicationError&) {
    // Settle has aborted it; whoever needs the peers next finds out.
  }
  Abort();
}

void NcclHandle::Abort() {
  if (comm_ != nullptr) ncclCommAbort(comm_);
  comm_ = nullptr;
}

ncclResult_t NcclHandle::State() const {
  ncclResult_t state = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(comm_, &state);
  return result == ncclSuccess ? state : result;
}

void NcclHandle::Settle(const std::string& what, ncclResult_t result) {
  const SteadyClock::time_point start = SteadyClock::now();
  for (int spins = 0; result == ncclSuccess || result == ncclInProgress; ++spins) {
    // A call that succeeded may have left work to NCCL's threads.
    result = State();
    if (result == ncclSuccess) return;
    if (result != ncclInProgress) break;
    if (SecondsSince(start) > host_.timeout_seconds()) {
      Fail(what, fmt::format("NCCL is not through within {:.1f} s: a rank has not come to it",
                             SecondsSince(start)));
    }
    host_.Poll();
    Rest(spins);
  }
  Fail(what, ErrorText(result));
}

void NcclHandle::Launch(const std::string& what,
                        const std::function<ncclResult_t(ncclComm_t)>& launch) {
  Check(what);
  Settle(what, launch(comm_));
}

void NcclHandle::Check(const std::string& what) {
  if (comm_ == nullptr) {
    throw CommunicationError(
        fmt::format("{}: {}: an earlier collective failed", host_.Self(), what));
  }
  const ncclResult_t state = State();
  if (state != ncclSuccess && state != ncclInProgress) Fail(what, ErrorText(state));
}

std::string NcclHandle::ErrorText(ncclResult_t result) const {
  const char* last = ncclGetLastError(comm_);
  const bool more = last != nullptr && *last != '\0';
  return fmt::format("NCCL: {}{}{}", ncclGetErrorString(result), more ? ": " : "",
                     more ? last : "");
}

void NcclHandle::Fail(const std::string& what, const std::string& why) {
  Abort();
  throw CommunicationError(fmt::format("{}: {}: {}", host_.Self(), what, why));
}

}  // namespace lacuna
