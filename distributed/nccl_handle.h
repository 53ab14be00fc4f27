// NcclHandle: one non-blocking NCCL communicator. Every wait in it has a deadline and ends in
// CommunicationError; while it waits, the host communicator's messages move on. Includes nccl.h, so
// only NCCL's own sources include it.
#pragma once

#include <nccl.h>

#include <functional>
#include <string>

#include "distributed/communicator.h"

namespace lacuna {

class NcclHandle {
 public:
  // Every rank of `host` calls it, with its card as the thread's current one; all wait until the
  // last one has. `host` must outlive this.
  explicit NcclHandle(Communicator& host);
  // In good order where all is well, which waits for what is under way; else as Abort.
  ~NcclHandle();
  NcclHandle(const NcclHandle&) = delete;
  NcclHandle& operator=(const NcclHandle&) = delete;

  // `launch` queues work; returns once the device has it. NCCL connects ranks at the first
  // collective that needs it: then this waits until they all have called that.
  void Launch(const std::string& what, const std::function<ncclResult_t(ncclComm_t)>& launch);
  // Throws where NCCL has met a failure since, as a peer that is gone, and after Abort.
  void Check(const std::string& what);
  // Ends what is under way on the device; the handle is of no use from then on.
  void Abort();

 private:
  ncclResult_t State() const;
  // Until what was asked of NCCL is done.
  void Settle(const std::string& what, ncclResult_t result);
  // Aborts, then throws.
  [[noreturn]] void Fail(const std::string& what, const std::string& why);
  std::string ErrorText(ncclResult_t result) const;

  Communicator& host_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace lacuna
