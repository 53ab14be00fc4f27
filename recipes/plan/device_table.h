// What is known of the cards that runs are planned for.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace lacuna {

struct PlannedDevice {
  const char* key;  // of lacuna plan --device
  const char* name;
  double memory_gib;   // as CUDA reports it
  double matmul;       // FLOP/s of an 8192^3 product in bf16, random data
  double copy;         // bytes/s of a large copy, read and written
  double all_to_all;   // bytes/s that a rank sends to the others of a host at once
  double collective;   // bytes/s of reduce-scatter and all-gather ("bus bandwidth")
  const char* source;  // of the rates
};

std::span<const PlannedDevice> PlannedDevices();
// nullptr where there is none.
const PlannedDevice* FindPlannedDevice(const std::string& key);

// Memory that is taken beside the tensors of a plan. Allowances, not measured per machine.
inline constexpr double kCudaGib = 0.75;  // context, kernels' code, cuBLAS and cuDNN
inline constexpr double kNcclGib = 1.5;   // channels and buffers of two communicators of 8 ranks
// Both, in bytes; NCCL's only with several ranks.
int64_t LibraryMemory(int64_t ranks);

}  // namespace lacuna
