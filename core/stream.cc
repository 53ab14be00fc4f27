#include "core/stream.h"

#include "core/error.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/runtime.h"
#endif

namespace lacuna {

#ifdef LACUNA_WITH_CUDA

int NumCudaDevices() {
  return cuda::NumDevices();
}
CudaDeviceInfo InfoOfCudaDevice(Device device) {
  CudaDeviceInfo info;
  cuda::GetDeviceInfo(device, &info.name, &info.id, &info.major, &info.minor, &info.memory_bytes);
  return info;
}
Stream ComputeStream(Device device) {
  return device.type == DeviceType::kCpu ? kCpuStream : cuda::ComputeStream(device);
}
void Synchronize(Stream stream) {
  if (stream.device.type == DeviceType::kCuda) cuda::Synchronize(stream);
}
int64_t NumHostWaits() {
  return cuda::NumHostWaits();
}

#else

int NumCudaDevices() {
  return 0;
}
CudaDeviceInfo InfoOfCudaDevice(Device) {
  return {};
}
Stream ComputeStream(Device device) {
  LACUNA_CHECK(device == kCpu, "this build has no CUDA backend (configure with -DLACUNA_CUDA=ON)");
  return kCpuStream;
}
void Synchronize(Stream) {}
int64_t NumHostWaits() {
  return 0;
}

#endif

}  // namespace lacuna
