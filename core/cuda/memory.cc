#include "core/cuda/memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/cuda/runtime.h"

namespace lacuna::cuda {
namespace {

cudaStream_t Handle(Stream stream) {
  return static_cast<cudaStream_t>(stream.handle);
}

// Pinned blocks on their way to a device. A block is free again when the copy out of it is done,
// which the next user asks and does not wait for: if the one that was used first is not free, there
// is one more. Blocks of a size are used in turn, so that nobody looks through them all.
class Staging {
 public:
  void Upload(void* target, const void* source, int64_t bytes, Stream stream) {
    std::lock_guard lock(mutex_);
    constexpr int64_t kSmallest = 4096;
    const auto size = static_cast<int64_t>(
        std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(bytes, kSmallest))));
    std::deque<Block>& blocks = blocks_[size];
    if (blocks.empty() || cudaEventQuery(blocks.front().done) != cudaSuccess)
      blocks.push_front(NewBlock(size));
    const Block block = blocks.front();
    std::memcpy(block.data, source, static_cast<size_t>(bytes));
    LACUNA_CUDA_CHECK(cudaMemcpyAsync(target, block.data, static_cast<size_t>(bytes),
                                      cudaMemcpyHostToDevice, Handle(stream)));
    LACUNA_CUDA_CHECK(cudaEventRecord(block.done, Handle(stream)));
    blocks.pop_front();
    blocks.push_back(block);
  }

 private:
  struct Block {
    void* data = nullptr;
    cudaEvent_t done = nullptr;
  };

  static Block NewBlock(int64_t size) {
    Block block;
    LACUNA_CUDA_CHECK(cudaMallocHost(&block.data, static_cast<size_t>(size)));
    LACUNA_CUDA_CHECK(cudaEventCreateWithFlags(&block.done, cudaEventDisableTiming));
    return block;
  }

  std::mutex mutex_;
  std::map<int64_t, std::deque<Block>> blocks_;  // by size, a power of two; used first in front
};

Staging& TheStaging() {
  static Staging* const staging = new Staging;  // outlives every static tensor
  return *staging;
}

// Larger copies (weights at the start) go in pieces, so that pinned memory stays small.
constexpr int64_t kStagedPiece = int64_t{32} << 20;

// Of one device.
struct Counters {
  std::atomic<int64_t> in_use{0}, peak{0};
};

Counters& CountersOf(Device device) {
  static std::array<Counters, kMaxDevices> counters;
  return counters[static_cast<size_t>(device.index)];  // in range: ComputeStream checked it
}

cudaMemPool_t PoolOf(Device device) {
  cudaMemPool_t pool;
  LACUNA_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device.index));
  return pool;
}

}  // namespace

void* Allocate(int64_t bytes, Device device) {
  const Stream stream = ComputeStream(device);
  void* data = nullptr;
  LACUNA_CUDA_CHECK(
      cudaMallocAsync(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)), Handle(stream)));
  NoteAllocated(data, bytes, device);
  Counters& counters = CountersOf(device);
  const int64_t in_use = counters.in_use += bytes;
  int64_t peak = counters.peak;
  while (peak < in_use && !counters.peak.compare_exchange_weak(peak, in_use)) {
  }
  return data;
}

void Free(void* data, int64_t bytes, Device device) noexcept {
  CountersOf(device).in_use -= bytes;
  if (FreedByCapture(data, device)) return;
  // A failure here is a sticky error of earlier work, or the runtime is shutting down; the next
  // checked call reports it.
  static_cast<void>(cudaFreeAsync(data, Handle(ComputeStream(device))));
}

MemoryUse GetMemoryUse(Device device) {
  ComputeStream(device);
  const Counters& counters = CountersOf(device);
  uint64_t reserved = 0;
  LACUNA_CUDA_CHECK(
      cudaMemPoolGetAttribute(PoolOf(device), cudaMemPoolAttrReservedMemCurrent, &reserved));
  return {counters.in_use, counters.peak, static_cast<int64_t>(reserved)};
}

void ResetMemoryPeak(Device device) {
  Counters& counters = CountersOf(device);
  counters.peak = counters.in_use.load();
}

void ReleasePool(Device device) {
  Synchronize(ComputeStream(device));
  LACUNA_CUDA_CHECK(cudaMemPoolTrimTo(PoolOf(device), 0));
}

void CopyToDevice(void* target, const void* source, int64_t bytes, Stream stream) {
  RefuseInCapture(
      "an upload from host memory cannot be captured, since every replay would bring the same "
      "bytes; it goes before the replay, into the tensor that the work reads");
  for (int64_t begin = 0; begin < bytes; begin += kStagedPiece) {
    TheStaging().Upload(static_cast<char*>(target) + begin,
                        static_cast<const char*>(source) + begin,
                        std::min(kStagedPiece, bytes - begin), stream);
  }
}

void CopyToHost(void* target, const void* source, int64_t bytes, Stream stream) {
  if (bytes == 0) return;
  RefuseInCapture("a copy to the host, which waits for the device, cannot be captured");
  LACUNA_CUDA_CHECK(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes),
                                    cudaMemcpyDeviceToHost, Handle(stream)));
  Synchronize(stream);
}

void CopyOnDevice(void* target, const void* source, int64_t bytes, Stream stream) {
  if (bytes == 0) return;
  LACUNA_CUDA_CHECK(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes),
                                    cudaMemcpyDeviceToDevice, Handle(stream)));
}

void Zero(void* target, int64_t bytes, Stream stream) {
  if (bytes == 0) return;
  LACUNA_CUDA_CHECK(cudaMemsetAsync(target, 0, static_cast<size_t>(bytes), Handle(stream)));
}

}  // namespace lacuna::cuda
