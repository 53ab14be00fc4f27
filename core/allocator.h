// Memory of tensors. CPU blocks are 64-byte aligned and kept for reuse by size, so a training step
// neither maps nor unmaps pages.
#pragma once

#include <cstdint>
#include <memory>

#include "core/device.h"
#include "core/memory_ledger.h"

namespace lacuna {

// A block of memory of one device, shared by the tensors that view it; of the category of the
// thread's MemoryScope. Throws OutOfMemoryError (core/out_of_memory.h) where there is no room, once
// what is kept for reuse was given back.
struct Storage {
  Storage(int64_t bytes, Device device);
  // Memory on the CPU that `owner` keeps; no ledger counts it.
  Storage(void* data, int64_t bytes, std::shared_ptr<void> owner);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data = nullptr;
  int64_t bytes = 0;
  Device device;
  MemoryCategory category;
  std::shared_ptr<void> owner;  // of memory that is not the allocator's
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

// Of any device.
MemoryStats MemoryStatsOf(Device device);
void ResetMemoryPeak(Device device);
// From now on, requests by which more than `bytes` would be in use on the device are refused as if
// its memory had ended; 0 lifts the limit. What is kept for reuse is held below it, too. Memory
// that CUDA and its libraries take for themselves is not counted.
void SetMemoryLimit(Device device, int64_t bytes);

}  // namespace lacuna
