// Where a tensor lives and in which order work runs there. POD only: CUDA sources include this
// header.
#pragma once

#include <cstdint>

namespace lacuna {

enum class DeviceType : uint8_t { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int8_t index = 0;

  friend constexpr bool operator==(Device, Device) = default;
};

inline constexpr Device kCpu{};

// An ordered queue of work on a device. On the CPU work runs at once and `handle` is null; on CUDA
// it is a cudaStream_t.
struct Stream {
  Device device;
  void* handle = nullptr;
};

inline constexpr Stream kCpuStream{};

// `stream`, or where it is the default, `other`.
inline constexpr Stream StreamOr(Stream stream, Stream other) {
  return stream.handle != nullptr ? stream : other;
}

}  // namespace lacuna
