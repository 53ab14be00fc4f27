// Training on the ranks of a communicator against one rank, on a shrunk model with sparse attention
// and experts: what an installation (cards, links, NCCL, MPI) computes is what one rank computes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device.h"
#include "distributed/communicator.h"

namespace lacuna {

// One way of sharing the model, N ranks against one over the same samples.
struct SelfTestRow {
  std::string what;  // "f32, experts over 4 ranks, zero 2, recompute"
  // Largest relative differences over the steps: of the loss, of the gradient's norm, of the telemetry
  // (auxiliary losses, gates, tokens per expert).
  double loss = 0, norm = 0, telemetry = 0;
  double bias = 0;   // of the routers' bias after the last step, absolute
  double limit = 0;  // of loss, norm and telemetry; the bias may differ where experts' loads tie
  bool passed() const { return loss <= limit && norm <= limit && telemetry <= limit; }
};

struct SelfTestResult {
  std::vector<SelfTestRow> rows;
  double seconds = 0;
  bool passed() const;
  std::string Table() const;  // for people
};

// Every rank of `comm` calls it, which is that of `device` (distributed/device_communicator.h). The
// result is the same on all ranks. Throws CommunicationError.
absl::StatusOr<SelfTestResult> RunSelfTest(Communicator& comm, Device device);

}  // namespace lacuna
