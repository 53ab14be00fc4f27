// What can be asked of a CUDA card before anything runs on it (recipes/trainer/preflight.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/device.h"

namespace lacuna {

struct CardFacts {
  int64_t free_bytes = 0;  // what nobody holds now
  int driver = 0;          // newest CUDA that the driver knows: 13000 is 13.0
  int runtime = 0;         // CUDA of this binary
  // For every other card that this process sees, by CudaDeviceInfo::id: whether this one reaches its
  // memory without the host.
  std::map<std::string, bool> peers;
};
CardFacts FactsOfCard(Device device);

// What this binary has kernels for, as CMake was told ("80-real, 90a-real"); empty without CUDA.
std::string ArchitecturesOfBinary();
// Runs a kernel of nothing on the device: why that fails, or empty.
std::string TryKernel(Device device);

}  // namespace lacuna
