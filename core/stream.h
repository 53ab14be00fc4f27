// Where work of a device runs, and the few places where the host waits for it.
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"

namespace lacuna {

// CUDA devices that this build can use: 0 without a CUDA backend, a driver or a card.
int NumCudaDevices();
inline constexpr Device CudaDevice(int index = 0) {
  return {DeviceType::kCuda, static_cast<int8_t>(index)};
}

struct CudaDeviceInfo {
  std::string name;
  std::string id;            // the same for whoever sees this card, and no other card's
  int major = 0, minor = 0;  // compute capability
  int64_t memory_bytes = 0;
};
// Of a device below NumCudaDevices().
CudaDeviceInfo InfoOfCudaDevice(Device device);

// The one stream on which tensors of a device are allocated, computed and freed: kCpuStream, or a
// CUDA stream made at its first use. Work on other streams has to be ordered against it by events.
Stream ComputeStream(Device device);

// Blocks the host until all work on the stream is done. Counted, as is every copy to the host.
void Synchronize(Stream stream);
// How often the host has waited for a device so far.
int64_t NumHostWaits();

}  // namespace lacuna
