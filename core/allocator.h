// Memory of tensors. CPU blocks are 64-byte aligned and kept for reuse by size, so a training step
// neither maps nor unmaps pages.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"

namespace lacuna {

// What is handed out now and the most there ever was, in bytes; reading is exact only between
// steps.
struct MemoryStats {
  int64_t in_use = 0;
  int64_t peak = 0;
  int64_t reserved = 0;  // in use plus kept for reuse
};

// A block of memory of one device, shared by the tensors that view it.
struct Storage {
  Storage(int64_t bytes, Device device);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data = nullptr;
  int64_t bytes = 0;
  Device device;
  // Counts in-place writes; a tensor saved for backward remembers it (autograd/saved_tensor.h).
  uint64_t version = 0;
};

MemoryStats CpuMemoryStats();
// Sets the peak to what is in use now.
void ResetCpuMemoryPeak();
// Gives unused CPU blocks back to the system.
void ReleaseCpuCache();

// The same of a CUDA device: tensors and what kernels take while they run, as the host asks for
// it. Zeros in a build without CUDA.
MemoryStats CudaMemoryStats(Device device);
void ResetCudaMemoryPeak(Device device);
// Waits for the device's compute stream first.
void ReleaseCudaCache(Device device);

}  // namespace lacuna
