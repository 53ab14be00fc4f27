// Device memory: stream-ordered blocks of the device's pool, copies and fills on a stream.
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"
#include "core/memory_category.h"

namespace lacuna {
struct MemoryStats;  // core/memory_ledger.h
}

namespace lacuna::cuda {

// At least one byte on the stream's device, in the order of the stream. Where the device has no room
// and what the pool keeps for reuse does not suffice in one piece, that goes back to the driver and
// the request is made once more. Then, or where SetMemoryLimit's limit would be passed, it throws
// OutOfMemoryError (core/out_of_memory.h), and the device is as before.
void* Allocate(int64_t bytes, Stream stream, MemoryCategory category);
void Free(void* data, int64_t bytes, Stream stream, MemoryCategory category) noexcept;

// What Allocate handed out and Free has not taken back, as the host asks for it; `reserved` is of
// the device's pool.
MemoryStats GetMemoryStats(Device device);
void ResetMemoryPeak(Device device);
void SetMemoryLimit(Device device, int64_t bytes);
// Throws OutOfMemoryError for `call`, which the current device's memory did not suffice for.
[[noreturn]] void FailForMemory(const char* call);
// Waits for the compute stream, then gives the pool's unused memory back to the driver.
void ReleasePool(Device device);

// Copies in the order of `stream`. From the host the source may be reused at once: it goes through
// pinned staging memory and nobody waits. To the host the call waits until the bytes are there.
void CopyToDevice(void* target, const void* source, int64_t bytes, Stream stream);
void CopyToHost(void* target, const void* source, int64_t bytes, Stream stream);
// The same into pinned memory, without the wait.
void QueueCopyToHost(void* pinned, const void* source, int64_t bytes, Stream stream);
void CopyOnDevice(void* target, const void* source, int64_t bytes, Stream stream);
void Zero(void* target, int64_t bytes, Stream stream);

// Page-locks memory of the host for copies of `device`: why it cannot be done, or empty. To be
// unlocked before it is freed.
std::string PinHostMemory(void* data, int64_t bytes, Device device);
void UnpinHostMemory(void* data) noexcept;

// Memory that a kernel needs while it runs, taken and freed in the order of its stream.
class Workspace {
 public:
  Workspace(int64_t bytes, Stream stream)
      : stream_(stream),
        bytes_(bytes),
        data_(Allocate(bytes, stream, MemoryCategory::kWorkspace)) {}
  ~Workspace() { Free(data_, bytes_, stream_, MemoryCategory::kWorkspace); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* As() const {
    return static_cast<T*>(data_);
  }

 private:
  Stream stream_;
  int64_t bytes_;
  void* data_;
};

}  // namespace lacuna::cuda
