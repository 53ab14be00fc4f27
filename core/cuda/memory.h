// Device memory: stream-ordered blocks of the device's pool, copies and fills on a stream.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace lacuna::cuda {

// At least one byte on `device`, in the order of its compute stream.
void* Allocate(int64_t bytes, Device device);
void Free(void* data, int64_t bytes, Device device) noexcept;

// What Allocate handed out and Free has not taken back, in bytes, as the host asks for it.
struct MemoryUse {
  int64_t in_use, peak;
  int64_t reserved;  // of the device's pool: in use plus kept for reuse
};
MemoryUse GetMemoryUse(Device device);
void ResetMemoryPeak(Device device);
// Waits for the compute stream, then gives the pool's unused memory back to the driver.
void ReleasePool(Device device);

// Copies in the order of `stream`. From the host the source may be reused at once: it goes through
// pinned staging memory and nobody waits. To the host the call waits until the bytes are there.
void CopyToDevice(void* target, const void* source, int64_t bytes, Stream stream);
void CopyToHost(void* target, const void* source, int64_t bytes, Stream stream);
void CopyOnDevice(void* target, const void* source, int64_t bytes, Stream stream);
void Zero(void* target, int64_t bytes, Stream stream);

// Memory that a kernel needs while it runs; freed in stream order.
class Workspace {
 public:
  Workspace(int64_t bytes, Stream stream)
      : device_(stream.device), bytes_(bytes), data_(Allocate(bytes, device_)) {}
  ~Workspace() { Free(data_, bytes_, device_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  template <class T>
  T* As() const {
    return static_cast<T*>(data_);
  }

 private:
  Device device_;
  int64_t bytes_;
  void* data_;
};

}  // namespace lacuna::cuda
