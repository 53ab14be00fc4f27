// Misuse of an operator and failures of the machine are exceptions of one type. What the outside
// world can get wrong (recipes, files, checkpoints) is absl::Status instead: see core/status.h.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace lacuna {

// what() is one line: "file.cc:12: <message>".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A device failed or was lost: whatever was queued on it is in doubt. The program ends with
// ExitCode::kHardware and saves nothing. A device without memory left is core/out_of_memory.h's.
class DeviceError : public Error {
 public:
  using Error::Error;
};

namespace internal {
[[noreturn]] void Fail(const char* file, int line, const char* condition,
                       const std::string& message);
}  // namespace internal

// LACUNA_CHECK(a == b, "rms_norm: weight has {} elements, x has {} columns", a, b): throws
// lacuna::Error unless it holds.
#define LACUNA_CHECK(condition, ...)                                                        \
  do {                                                                                      \
    if (!(condition)) [[unlikely]]                                                          \
      ::lacuna::internal::Fail(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

// An invariant of our own code; costs nothing in release builds.
#ifdef NDEBUG
#define LACUNA_DCHECK(condition, ...) \
  do {                                \
  } while (false)
#else
#define LACUNA_DCHECK(condition, ...) LACUNA_CHECK(condition, __VA_ARGS__)
#endif

}  // namespace lacuna
