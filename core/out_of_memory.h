// What the program says when a device has no memory left.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/device.h"
#include "core/error.h"
#include "core/memory_ledger.h"

namespace lacuna {

// 3221225472 -> "3.00 GiB"; binary units.
std::string FormatMemory(int64_t bytes);

// One line a category that was ever in use: in use now, at the peak of all, at its own peak. Then
// the total and what the allocator keeps for reuse. Lines are indented by two and end with '\n'.
std::string MemoryTable(const MemoryStats& stats);
// "812.40 MiB = activations 401.20 MiB + parameters ...", the largest first: who held what at the
// peak. Less than 1 % each is put together as "rest".
std::string PeakSummary(const MemoryStats& stats);

// A request for memory that failed.
struct OutOfMemory {
  Device device;
  std::string device_name;  // as "NVIDIA H200"; empty for the CPU
  int64_t bytes = 0;        // asked for; 0 where a library asked and did not say
  MemoryCategory category = MemoryCategory::kOther;
  std::string call;  // that failed, where it was not the allocator's own
  // Of the device (of the machine, for the CPU): all, and what nobody holds; 0 where unknown.
  int64_t total = 0, free = 0;
  int64_t limit = 0;  // SetMemoryLimit's, where that is what the request passes; else 0
  MemoryStats stats;
};

// The device is as good as before; what() says who holds its memory, in several lines. The program
// ends with ExitCode::kHardware.
class OutOfMemoryError : public Error {
 public:
  // `advice`: lines that follow the table.
  explicit OutOfMemoryError(OutOfMemory request, const std::string& advice = "");

  const OutOfMemory& request() const { return *request_; }

 private:
  std::shared_ptr<const OutOfMemory> request_;  // so that a copy cannot fail
};

}  // namespace lacuna
