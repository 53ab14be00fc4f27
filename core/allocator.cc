#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/error.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/memory.h"
#endif

namespace lacuna {
namespace {

constexpr int64_t kAlignment = 64;

class CpuPool {
 public:
  void* Allocate(int64_t bytes) {
    const int64_t size = RoundUp(bytes);
    std::lock_guard lock(mutex_);
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    auto& free = free_[size];
    if (!free.empty()) {
      void* block = free.back();
      free.pop_back();
      return block;
    }
    void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
    LACUNA_CHECK(block != nullptr, "out of memory: {} bytes asked for, {} in use", size,
                 stats_.in_use);
    stats_.reserved += size;
    return block;
  }

  void Free(void* block, int64_t bytes) {
    const int64_t size = RoundUp(bytes);
    std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    free_[size].push_back(block);
  }

  void Release() {
    std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (void* block : blocks) std::free(block);
      stats_.reserved -= size * static_cast<int64_t>(blocks.size());
    }
    free_.clear();
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void ResetPeak() {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

 private:
  // Sizes in steps of 1/8 of their power of two: at most 12.5 % is lost and data-dependent sizes
  // find a block to reuse.
  static int64_t RoundUp(int64_t bytes) {
    const int64_t size = std::max<int64_t>(bytes, kAlignment);
    const int64_t step = std::max<int64_t>(
        kAlignment, static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(size))) / 8);
    return (size + step - 1) / step * step;
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  MemoryStats stats_;
};

CpuPool& Pool() {
  static CpuPool* const pool = new CpuPool;  // outlives every static tensor
  return *pool;
}

}  // namespace

Storage::Storage(int64_t size, Device where) : bytes(size), device(where) {
  if (device.type == DeviceType::kCpu) {
    data = Pool().Allocate(bytes);
#ifndef NDEBUG
    // NaN: a kernel that leaves its output unwritten shows
    std::memset(data, 0xFF, static_cast<size_t>(bytes));
#endif
    return;
  }
#ifdef LACUNA_WITH_CUDA
  data = cuda::Allocate(bytes, device);
#else
  LACUNA_CHECK(false, "this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
#endif
}

Storage::~Storage() {
  if (device.type == DeviceType::kCpu) {
    Pool().Free(data, bytes);
    return;
  }
#ifdef LACUNA_WITH_CUDA
  cuda::Free(data, bytes, device);
#endif
}

MemoryStats CpuMemoryStats() {
  return Pool().stats();
}
void ResetCpuMemoryPeak() {
  Pool().ResetPeak();
}
void ReleaseCpuCache() {
  Pool().Release();
}

#ifdef LACUNA_WITH_CUDA

MemoryStats CudaMemoryStats(Device device) {
  const cuda::MemoryUse use = cuda::GetMemoryUse(device);
  return {.in_use = use.in_use, .peak = use.peak, .reserved = use.reserved};
}
void ResetCudaMemoryPeak(Device device) {
  cuda::ResetMemoryPeak(device);
}
void ReleaseCudaCache(Device device) {
  cuda::ReleasePool(device);
}

#else

MemoryStats CudaMemoryStats(Device) {
  return {};
}
void ResetCudaMemoryPeak(Device) {}
void ReleaseCudaCache(Device) {}

#endif

}  // namespace lacuna
