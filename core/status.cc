#include "core/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"

namespace lacuna {
namespace {
constexpr char kExitCodeKey[] = "lacuna.exit_code";
}  // namespace

absl::Status MakeError(ExitCode code, std::string message) {
  absl::Status status(absl::StatusCode::kFailedPrecondition, message);
  status.SetPayload(kExitCodeKey, absl::Cord(std::to_string(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  int code = 0;
  const auto payload = status.GetPayload(kExitCodeKey);
  if (payload && absl::SimpleAtoi(std::string(*payload), &code)) return static_cast<ExitCode>(code);
  return ExitCode::kFailure;
}

}  // namespace lacuna
