#include "core/cuda/runtime.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <mutex>

#include "core/cuda/check.h"
#include "core/cuda/graph.h"
#include "core/error.h"

namespace lacuna::cuda {
namespace {

std::atomic<int64_t> num_host_waits{0};

// What is asked of a device once.
struct DeviceState {
  std::once_flag once;
  cudaStream_t stream = nullptr, side = nullptr;
  cudaEvent_t forked = nullptr, joined = nullptr;  // of the compute stream, of the side stream
  int multiprocessors = 0;
  int compute_major = 0;
};

DeviceState& State(Device device) {
  static std::array<DeviceState, kMaxDevices> states;
  LACUNA_CHECK(device.type == DeviceType::kCuda && device.index >= 0 && device.index < kMaxDevices,
               "CUDA device {} of at most {}", device.index, kMaxDevices);
  DeviceState& state = states[static_cast<size_t>(device.index)];
  std::call_once(state.once, [&] {
    LACUNA_CUDA_CHECK(cudaSetDevice(device.index));
    // Freed memory stays in the pool: giving it back to the driver at each synchronisation costs
    // milliseconds a step.
    cudaMemPool_t pool;
    LACUNA_CUDA_CHECK(cudaDeviceGetDefaultMemPool(&pool, device.index));
    uint64_t threshold = UINT64_MAX;
    LACUNA_CUDA_CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold));
    LACUNA_CUDA_CHECK(cudaDeviceGetAttribute(&state.multiprocessors, cudaDevAttrMultiProcessorCount,
                                             device.index));
    LACUNA_CUDA_CHECK(cudaDeviceGetAttribute(&state.compute_major,
                                             cudaDevAttrComputeCapabilityMajor, device.index));
    for (cudaStream_t* stream : {&state.stream, &state.side})
      LACUNA_CUDA_CHECK(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking));
    for (cudaEvent_t* event : {&state.forked, &state.joined})
      LACUNA_CUDA_CHECK(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
  });
  return state;
}

}  // namespace

int NumDevices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

void GetDeviceInfo(Device device, std::string* name, std::string* id, int* major, int* minor,
                   int64_t* memory_bytes) {
  cudaDeviceProp properties;
  LACUNA_CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index));
  *name = properties.name;
  id->clear();
  for (const char byte : properties.uuid.bytes)
    *id += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  *major = properties.major;
  *minor = properties.minor;
  *memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
}

Stream ComputeStream(Device device) {
  return {device, State(device).stream};
}

Stream SideStream(Device device) {
  return {device, State(device).side};
}

// An event of a stream may be recorded again while others wait for it: they wait for what it was at
// their call, or, where two threads are at it, for something later on the same stream.
void Follow(Stream follower, Stream leader) {
  const DeviceState& state = State(leader.device);
  cudaEvent_t event = leader.handle == state.stream ? state.forked : state.joined;
  LACUNA_CUDA_CHECK(cudaEventRecord(event, static_cast<cudaStream_t>(leader.handle)));
  LACUNA_CUDA_CHECK(cudaStreamWaitEvent(static_cast<cudaStream_t>(follower.handle), event, 0));
}

void Synchronize(Stream stream) {
  RefuseInCapture("a wait of the host for the device cannot be captured");
  ++num_host_waits;
  LACUNA_CUDA_CHECK(cudaStreamSynchronize(static_cast<cudaStream_t>(stream.handle)));
}

int64_t NumHostWaits() {
  return num_host_waits;
}

int NumMultiprocessors(Stream stream) {
  return State(stream.device).multiprocessors;
}

int ComputeMajor(Stream stream) {
  return State(stream.device).compute_major;
}

}  // namespace lacuna::cuda
