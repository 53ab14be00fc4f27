// Errors of the outside world, and the exit code each kind ends the program with.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace lacuna {

// The program's exit codes (a signal after a saved checkpoint gives 128 + its number).
enum class ExitCode : int {
  kOk = 0,
  kFailure = 1,     // a defect of ours
  kConfig = 2,      // command line, recipe
  kData = 3,        // data files, tokenizer
  kCheckpoint = 4,  // checkpoints
  kHardware = 5,    // device, its memory, communication
  kNumerics = 6,    // non-finite loss or gradients
};

// A status whose message is one line: what was found, where, and what is allowed.
absl::Status MakeError(ExitCode code, std::string message);

template <class... T>
absl::Status ConfigError(fmt::format_string<T...> format, T&&... args) {
  return MakeError(ExitCode::kConfig, fmt::format(format, std::forward<T>(args)...));
}
template <class... T>
absl::Status DataError(fmt::format_string<T...> format, T&&... args) {
  return MakeError(ExitCode::kData, fmt::format(format, std::forward<T>(args)...));
}
template <class... T>
absl::Status CheckpointError(fmt::format_string<T...> format, T&&... args) {
  return MakeError(ExitCode::kCheckpoint, fmt::format(format, std::forward<T>(args)...));
}

// `text` from a file as a part of a message: control characters as \n, \t or \xHH, and at most
// `most` bytes of it (whole characters, then "...").
std::string OneLine(std::string_view text, size_t most = std::string_view::npos);

// The exit code that `status` carries; kFailure when it carries none and is not OK.
ExitCode ExitCodeOf(const absl::Status& status);

// Text of std::string_view from a status (Debian's absl::string_view is not std::string_view).
inline std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

}  // namespace lacuna

#define LACUNA_RETURN_IF_ERROR(expression)                                  \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define LACUNA_STATUS_CONCAT_INNER(a, b) a##b
#define LACUNA_STATUS_CONCAT(a, b) LACUNA_STATUS_CONCAT_INNER(a, b)
// LACUNA_ASSIGN_OR_RETURN(auto x, MakeX());
#define LACUNA_ASSIGN_OR_RETURN(target, expression) \
  LACUNA_ASSIGN_OR_RETURN_IMPL(LACUNA_STATUS_CONCAT(status_or_, __LINE__), target, expression)
#define LACUNA_ASSIGN_OR_RETURN_IMPL(name, target, expression) \
  auto name = (expression);                                    \
  if (!name.ok()) return name.status();                        \
  target = *std::move(name)
