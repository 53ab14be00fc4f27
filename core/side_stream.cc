#include "core/side_stream.h"

#include "core/kernel.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lacuna {

SideStream::SideStream(Stream compute) : compute_(compute), side_(compute) {
#ifdef LACUNA_WITH_CUDA
  if (compute.device.type != DeviceType::kCuda || KernelObserver::Current() != nullptr) return;
  side_ = cuda::SideStream(compute.device);
  cuda::Follow(side_, compute_);
#endif
}

SideStream::~SideStream() {
  try {
    Join();
  } catch (...) {  // an error of the device, which the next call on it reports
  }
}

void SideStream::Join() {
#ifdef LACUNA_WITH_CUDA
  if (side_.handle != compute_.handle) cuda::Follow(compute_, side_);
#endif
  side_ = compute_;
}

}  // namespace lacuna
