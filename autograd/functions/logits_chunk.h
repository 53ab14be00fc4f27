// How many tokens' logits LinearCrossEntropy holds at once.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace lacuna {

// For logits of `row_bytes` bytes a token: of the sizes alone, so that two runs sum in the same order.
int64_t LogitsChunk(int64_t row_bytes, Device device);

}  // namespace lacuna
