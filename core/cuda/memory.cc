#include "core/cuda/memory.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/cuda/runtime.h"
#include "core/out_of_memory.h"

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

MemoryLedger& LedgerOf(Device device) {
  static auto* const ledgers =
      new std::array<MemoryLedger, kMaxDevices>;         // outlives static tensors
  return (*ledgers)[static_cast<size_t>(device.index)];  // in range: ComputeStream checked it
}

cudaMemPool_t PoolOf(Device device) {
  cudaMemPool_t pool;
  LACUNA_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device.index));
  return pool;
}

// Fills in what is known of the device. Unchecked calls: what cannot be had is left out of the
// text, and must not hide the failure it is about.
[[noreturn]] void ThrowOutOfMemory(OutOfMemory request) {
  const Device device = request.device;
  request.stats = LedgerOf(device).stats();
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device.index) == cudaSuccess)
    request.device_name = properties.name;
  int current = 0;
  cudaGetDevice(&current);
  size_t free = 0, total = 0;
  if (cudaSetDevice(device.index) == cudaSuccess && cudaMemGetInfo(&free, &total) == cudaSuccess) {
    request.free = static_cast<int64_t>(free);
    request.total = static_cast<int64_t>(total);
  }
  cudaSetDevice(current);
  cudaMemPool_t pool = nullptr;
  uint64_t reserved = 0;
  if (cudaDeviceGetDefaultMemPool(&pool, device.index) == cudaSuccess &&
      cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &reserved) == cudaSuccess)
    request.stats.reserved = static_cast<int64_t>(reserved);
  cudaGetLastError();
  throw OutOfMemoryError(std::move(request));
}

}  // namespace

void* Allocate(int64_t bytes, Stream stream, MemoryCategory category) {
  const Device device = stream.device;
  MemoryLedger& ledger = LedgerOf(device);
  const auto fail = [&](int64_t limit) {
    OutOfMemory request;
    request.device = device;
    request.bytes = bytes;
    request.category = category;
    request.limit = limit;
    ThrowOutOfMemory(std::move(request));
  };
  if (!ledger.Fits(bytes)) fail(ledger.limit());
  void* data = nullptr;
  const auto allocate = [&] {
    return cudaMallocAsync(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1)), Handle(stream));
  };
  cudaError_t error = allocate();
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // no failure of the device: the next check must not see it
    ReleasePool(device);
    error = allocate();
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(0);
  }
  LACUNA_CUDA_CHECK(error);
  NoteAllocated(data, bytes, device);
  ledger.Add(category, bytes);
  return data;
}

void Free(void* data, int64_t bytes, Stream stream, MemoryCategory category) noexcept {
  LedgerOf(stream.device).Remove(category, bytes);
  if (FreedByCapture(data, stream)) return;
  // A failure here is a sticky error of earlier work, or the runtime is shutting down; the next
  // checked call reports it.
  static_cast<void>(cudaFreeAsync(data, Handle(stream)));
}

MemoryStats GetMemoryStats(Device device) {
  ComputeStream(device);
  MemoryStats stats = LedgerOf(device).stats();
  uint64_t reserved = 0;
  LACUNA_CUDA_CHECK(
      cudaMemPoolGetAttribute(PoolOf(device), cudaMemPoolAttrReservedMemCurrent, &reserved));
  stats.reserved = static_cast<int64_t>(reserved);
  return stats;
}

void ResetMemoryPeak(Device device) {
  ComputeStream(device);
  LedgerOf(device).ResetPeak();
}

void SetMemoryLimit(Device device, int64_t bytes) {
  ComputeStream(device);
  LedgerOf(device).set_limit(bytes);
  // What the pool keeps above it goes back to the driver when the host next waits for the stream.
  uint64_t threshold = bytes > 0 ? static_cast<uint64_t>(bytes) : UINT64_MAX;
  LACUNA_CUDA_CHECK(
      cudaMemPoolSetAttribute(PoolOf(device), cudaMemPoolAttrReleaseThreshold, &threshold));
}

void FailForMemory(const char* call) {
  int device = 0;
  cudaGetDevice(&device);
  OutOfMemory request;
  request.device = {DeviceType::kCuda, static_cast<int8_t>(device)};
  request.call = call;
  ThrowOutOfMemory(std::move(request));
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

void QueueCopyToHost(void* pinned, const void* source, int64_t bytes, Stream stream) {
  if (bytes == 0) return;
  RefuseInCapture("a copy to the host cannot be captured");
  LACUNA_CUDA_CHECK(cudaMemcpyAsync(pinned, source, static_cast<size_t>(bytes),
                                    cudaMemcpyDeviceToHost, Handle(stream)));
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

std::string PinHostMemory(void* data, int64_t bytes, Device device) {
  ComputeStream(device);  // the device's context is this thread's
  const cudaError_t error =
      cudaHostRegister(data, static_cast<size_t>(bytes), cudaHostRegisterDefault);
  if (error == cudaSuccess) return "";
  cudaGetLastError();  // no failure of the device: the next check must not see it
  return cudaGetErrorString(error);
}

void UnpinHostMemory(void* data) noexcept {
  // A failure here is a sticky error of earlier work, or the runtime is shutting down.
  static_cast<void>(cudaHostUnregister(data));
}

}  // namespace lacuna::cuda
