// StagedCopies: host memory that stands for tensors of a device while they are communicated, and the
// copies between the two.
#pragma once

#include <functional>
#include <memory>

#include "core/tensor.h"

namespace lacuna {

class StagedCopies {
 public:
  // Polled until true; never blocks. Throws DeviceError where the device failed.
  using Done = std::function<bool()>;

  virtual ~StagedCopies() = default;
  // False for a tensor on the CPU.
  virtual bool Takes(const Tensor& tensor) const = 0;
  // Host memory, not initialised; it is used again when nobody holds it and no copy uses it.
  virtual Tensor Buffer(const Shape& shape, DType dtype) = 0;
  // Copies to the host what the compute stream has in `from` when it comes to this call; both must
  // live until done. Uploads after this call wait for the compute stream up to here, too.
  virtual Done Download(const Tensor& from, Tensor to) = 0;
  // Work that is launched on the compute stream from now on finds `from` in `to`. `from` is a
  // Buffer, which may be dropped at once and must not be written.
  virtual void Upload(const Tensor& from, Tensor to) = 0;
};

// Of a CUDA device: pinned memory and a stream for the copies. Only in a build with CUDA.
std::shared_ptr<StagedCopies> MakeCudaStagedCopies(Device device);

}  // namespace lacuna
