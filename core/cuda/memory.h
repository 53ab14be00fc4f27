// Device memory of tensors.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace lacuna::cuda {

// At least one byte on `device`, from the device's default stream-ordered pool.
void* Allocate(int64_t bytes, Device device);
void Free(void* data, Device device) noexcept;

}  // namespace lacuna::cuda
