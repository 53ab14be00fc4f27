// Training on the ranks of a communicator against one rank, on a shrunk model with sparse attention
// and experts: what an installation (cards, links, NCCL, MPI) computes is what one rank computes.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device.h"
#include "distributed/communicator.h"
#include "recipes/trainer/routing_record.h"

namespace lacuna {

// One way of sharing the model, N ranks against one over the same samples.
struct SelfTestRow {
  std::string what;  // "f32, experts over 4 ranks, zero 2, recompute"
  // Largest relative differences: of the loss, over all steps; over the first four, of the gradient's
  // norm and of the telemetry (auxiliary losses, gates; but in bf16 tokens per expert).
  double loss = 0, norm = 0, telemetry = 0;
  double bias = 0;        // of the routers' bias after the last step, absolute
  double limit = 0;       // of norm and telemetry; the bias may differ where experts' loads tie
  double loss_limit = 0;  // the same, and 5e-3 of more than 50 steps: near ties send rows elsewhere
  RoutingAgreement routing;  // of the first step
  double routed_alike = 1;   // smallest share that is allowed
  bool passed() const {
    return loss <= loss_limit && norm <= limit && telemetry <= limit &&
           routing.share() >= routed_alike;
  }
};

struct SelfTestOptions {
  int64_t steps = 4;
};

struct SelfTestResult {
  std::vector<SelfTestRow> rows;
  double seconds = 0;
  bool passed() const;
  std::string Table() const;  // for people
};

// Every rank of `comm` calls it, which is that of `device` (distributed/device_communicator.h). The
// result is the same on all ranks. Throws CommunicationError.
absl::StatusOr<SelfTestResult> RunSelfTest(Communicator& comm, Device device,
                                           const SelfTestOptions& options = {});

}  // namespace lacuna
