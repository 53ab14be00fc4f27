// How many experts the CUDA kernels hold in a block's shared memory or a warp's registers.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace lacuna::cuda {
inline constexpr int64_t kMaxExperts = 1024;
}  // namespace lacuna::cuda

namespace lacuna::ops {
// Throws, naming the limit, where the stream's device cannot take that many.
void CheckNumExperts(const char* op, int64_t experts, Stream stream);
}  // namespace lacuna::ops
