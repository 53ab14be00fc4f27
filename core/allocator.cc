#include "core/allocator.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/host_memory.h"
#include "core/out_of_memory.h"
#include "core/stream.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/memory.h"
#endif

namespace lacuna {
namespace {

constexpr int64_t kAlignment = 64;

class CpuPool {
 public:
  void* Allocate(int64_t bytes, MemoryCategory category) {
    const int64_t size = RoundUp(bytes);
    std::lock_guard lock(mutex_);
    if (!ledger_.Fits(size)) ThrowOutOfMemory(size, category, ledger_.limit());
    void* block = TakeFree(size);
    if (block == nullptr) block = Map(size);
    if (block == nullptr) ThrowOutOfMemory(size, category, 0);
    ledger_.Add(category, size);
    return block;
  }

  void Free(void* block, int64_t bytes, MemoryCategory category) {
    const int64_t size = RoundUp(bytes);
    std::lock_guard lock(mutex_);
    ledger_.Remove(category, size);
    free_[size].push_back(block);
  }

  void Release() {
    std::lock_guard lock(mutex_);
    ReleaseLocked();
  }

  MemoryStats stats() {
    std::lock_guard lock(mutex_);
    return StatsLocked();
  }
  MemoryLedger& ledger() { return ledger_; }

 private:
  void* TakeFree(int64_t size) {
    auto& free = free_[size];
    if (free.empty()) return nullptr;
    void* block = free.back();
    free.pop_back();
    return block;
  }

  // Null where the system has no such block, even with all that was kept for reuse.
  void* Map(int64_t size) {
    if (const int64_t limit = ledger_.limit(); limit > 0 && reserved_ + size > limit)
      ReleaseLocked();
    void* block = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
    if (block == nullptr) {
      ReleaseLocked();
      block = std::aligned_alloc(kAlignment, static_cast<size_t>(size));
    }
    if (block != nullptr) reserved_ += size;
    return block;
  }

  void ReleaseLocked() {
    for (auto& [size, blocks] : free_) {
      for (void* block : blocks) std::free(block);
      reserved_ -= size * static_cast<int64_t>(blocks.size());
    }
    free_.clear();
  }

  MemoryStats StatsLocked() const {
    MemoryStats stats = ledger_.stats();
    stats.reserved = reserved_;
    return stats;
  }

  [[noreturn]] void ThrowOutOfMemory(int64_t bytes, MemoryCategory category, int64_t limit) const {
    const HostMemory host = MemoryOfHost();
    OutOfMemory request;
    request.device = kCpu;
    request.bytes = bytes;
    request.category = category;
    request.total = host.total;
    request.free = host.available;
    request.limit = limit;
    request.stats = StatsLocked();
    throw OutOfMemoryError(std::move(request));
  }

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
  int64_t reserved_ = 0;
  MemoryLedger ledger_;  // in sizes rounded up
};

CpuPool& Pool() {
  static CpuPool* const pool = new CpuPool;  // outlives every static tensor
  return *pool;
}

}  // namespace

Storage::Storage(int64_t size, Device where)
    : bytes(size), device(where), category(MemoryScope::Current()) {
  if (device.type == DeviceType::kCpu) {
    data = Pool().Allocate(bytes, category);
#ifndef NDEBUG
    // NaN: a kernel that leaves its output unwritten shows
    std::memset(data, 0xFF, static_cast<size_t>(bytes));
#endif
    return;
  }
#ifdef LACUNA_WITH_CUDA
  data = cuda::Allocate(bytes, ComputeStream(device), category);
#else
  LACUNA_CHECK(false, "this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
#endif
}

Storage::Storage(void* memory, int64_t size, std::shared_ptr<void> keeper)
    : data(memory), bytes(size), category(MemoryScope::Current()), owner(std::move(keeper)) {}

Storage::~Storage() {
  if (owner != nullptr) return;
  if (device.type == DeviceType::kCpu) {
    Pool().Free(data, bytes, category);
    return;
  }
#ifdef LACUNA_WITH_CUDA
  cuda::Free(data, bytes, ComputeStream(device), category);
#endif
}

MemoryStats CpuMemoryStats() {
  return Pool().stats();
}
void ResetCpuMemoryPeak() {
  Pool().ledger().ResetPeak();
}
void ReleaseCpuCache() {
  Pool().Release();
}

#ifdef LACUNA_WITH_CUDA

MemoryStats CudaMemoryStats(Device device) {
  return cuda::GetMemoryStats(device);
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

MemoryStats MemoryStatsOf(Device device) {
  return device.type == DeviceType::kCpu ? CpuMemoryStats() : CudaMemoryStats(device);
}

void ResetMemoryPeak(Device device) {
  if (device.type == DeviceType::kCpu) return ResetCpuMemoryPeak();
  ResetCudaMemoryPeak(device);
}

void SetMemoryLimit(Device device, int64_t bytes) {
  if (device.type == DeviceType::kCpu) return Pool().ledger().set_limit(bytes);
#ifdef LACUNA_WITH_CUDA
  cuda::SetMemoryLimit(device, bytes);
#endif
}

}  // namespace lacuna
