// Streams of the CUDA backend and every wait of the host for a device.
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"

namespace lacuna::cuda {

inline constexpr int kMaxDevices = 16;

// 0 where there is no driver or no card.
int NumDevices();
// `id` is the card's UUID.
void GetDeviceInfo(Device device, std::string* name, std::string* id, int* major, int* minor,
                   int64_t* memory_bytes);
Stream ComputeStream(Device device);
// Another one, for work beside it (core/side_stream.h).
Stream SideStream(Device device);
// What is queued on `follower` from now on waits for what is on `leader` by now. Both are streams of
// one device, the compute stream and the side stream.
void Follow(Stream follower, Stream leader);
// cudaStreamSynchronize; throws the decoded error of whatever failed on the stream.
void Synchronize(Stream stream);
int64_t NumHostWaits();

// Multiprocessors of the device the stream is on.
int NumMultiprocessors(Stream stream);
// Its compute capability's first number: 8 Ampere, 9 Hopper.
int ComputeMajor(Stream stream);

}  // namespace lacuna::cuda
