// The machine's memory, and large blocks of it that are not tensors of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/device.h"

namespace lacuna {

// All memory that this process may use, and what could be had of it now: the machine's
// (/proc/meminfo), or its control group's where that allows less (cgroup v2, as in containers);
// zeros where neither can be read.
struct HostMemory {
  int64_t total = 0, available = 0;
};
HostMemory MemoryOfHost();
// The same of the files under `root` ("" for those of this machine).
HostMemory MemoryOfHost(const std::string& root);

// Zeroed memory of nobody's ledger, in large pages where the system has them, every page there when
// the call returns; page-locked for copies from `device` where that is a card. Freed with the last
// owner. An error with ExitCode::kHardware: "cannot pin 40.21 GiB of host memory: ...".
absl::StatusOr<std::shared_ptr<void>> AllocateHostMemory(int64_t bytes, Device device);

}  // namespace lacuna
