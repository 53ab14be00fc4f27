#include "recipes/plan/device_table.h"

#include <array>

namespace lacuna {
namespace {

// H100: docs/benchmarks.md, both rates measured with `lacuna bench cuda`. H200: the same product
// measured on that card. Links of both: nccl-tests issue 212 (370 GB/s for what is not an
// all-reduce) and DeepEP issue 16 (337 GB/s of one all-to-all over the same NVLink). A100: four
// fifths of the nominal rates, and nccl-tests issue 149 (200-235 GB/s); nothing was measured there.
constexpr std::array kDevices = {
    PlannedDevice{"h100", "H100 80GB SXM", 79.2, 704e12, 3.03e12, 330e9, 370e9,
                  "product and copy measured; links published"},
    PlannedDevice{"h200", "H200", 139.8, 769e12, 4.3e12, 330e9, 370e9,
                  "product and copy measured; links published"},
    PlannedDevice{"a100-80g", "A100 80GB SXM", 79.2, 250e12, 1.6e12, 200e9, 220e9,
                  "not measured: four fifths of nominal; links published"},
};

}  // namespace

std::span<const PlannedDevice> PlannedDevices() {
  return kDevices;
}

const PlannedDevice* FindPlannedDevice(const std::string& key) {
  for (const PlannedDevice& device : kDevices) {
    if (key == device.key) return &device;
  }
  return nullptr;
}

int64_t LibraryMemory(int64_t ranks) {
  return static_cast<int64_t>((kCudaGib + (ranks > 1 ? kNcclGib : 0)) * (1 << 30));
}

}  // namespace lacuna
