// Training on the ranks of a communicator against one rank, on a shrunk model with sparse attention
// and experts: what an installation (cards, links, NCCL, MPI) computes is what one rank computes.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device.h"
#include "core/dtype.h"
#include "distributed/communicator.h"
#include "recipes/trainer/routing_record.h"

namespace lacuna {

// One way of sharing the model, N ranks against one over the same samples.
struct SelfTestRow {
  std::string what;  // "f32, experts over 4 ranks, zero 2, recompute"
  // Largest relative differences: of the loss; over the first four steps, of the gradient's norm and
  // of the telemetry (auxiliary losses, gates; but in bf16 tokens per expert).
  double loss = 0, norm = 0, telemetry = 0;
  // In f32 these are of the steps in which experts got the same numbers of tokens, and at least of
  // four; behind them near ties have sent tokens elsewhere, and two trainings are compared.
  int64_t steps_alike = 0;
  double late_loss = 0, late_limit = 0;
  double bias = 0;   // of the routers' bias after the last step, absolute
  double limit = 0;  // of loss, norm and telemetry; the bias may differ where experts' loads tie
  RoutingAgreement routing;  // of the first step
  double routed_alike = 1;   // smallest share that is allowed
  bool passed() const {
    return loss <= limit && norm <= limit && telemetry <= limit && late_loss <= late_limit &&
           routing.share() >= routed_alike;
  }
};

struct SelfTestOptions {
  int64_t steps = 4;
  std::optional<DType> dtype = std::nullopt;  // one type alone
  std::string match = {};  // only ways in whose SelfTestRow::what this regular expression is found
  // Called after each step of all ranks with the way of sharing, on every rank.
  std::function<void(const std::string& what, int64_t step)> on_step = nullptr;
  // Called with each way of sharing as it is done, on every rank.
  std::function<void(const SelfTestRow&)> on_row = nullptr;
};

struct SelfTestResult {
  std::vector<SelfTestRow> rows;
  double seconds = 0;
  bool passed() const;
  std::string Table() const;  // for people: TitleLine and the rows' lines
};

// Lines of the table, with their ends.
std::string TitleLine();
std::string Line(const SelfTestRow& row);

// Every rank of `comm` calls it, which is that of `device` (distributed/device_communicator.h). The
// result is the same on all ranks. ConfigError where the device's models are not of options.dtype (f64
// and f32 on the CPU, f32 and bf16 on a card), or options.match finds no way. Throws
// CommunicationError.
absl::StatusOr<SelfTestResult> RunSelfTest(Communicator& comm, Device device,
                                           const SelfTestOptions& options = {});

}  // namespace lacuna
