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

std::string OneLine(std::string_view text, size_t most) {
  const bool cut = text.size() > most;
  if (cut) {
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
    text = text.substr(0, most);
  }
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t') {
      line += c == '\n' ? "\\n" : "\\t";
    } else if (byte < 0x20 || byte == 0x7F) {
      line += fmt::format("\\x{:02X}", byte);
    } else {
      line += c;
    }
  }
  return cut ? line + "..." : line;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return ExitCode::kOk;
  int code = 0;
  const auto payload = status.GetPayload(kExitCodeKey);
  if (payload && absl::SimpleAtoi(std::string(*payload), &code)) return static_cast<ExitCode>(code);
  return ExitCode::kFailure;
}

}  // namespace lacuna
