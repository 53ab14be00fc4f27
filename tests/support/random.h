// Random test tensors: the same for a seed whatever the dtype (then rounded to it).
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace lacuna::test {

// Standard normal values (times `scale`) of stream `seed`.
Tensor RandomTensor(Shape shape, DType dtype, uint64_t seed, double scale = 1.0);
// Integers in [0, bound).
Tensor RandomIds(Shape shape, int32_t bound, uint64_t seed);

}  // namespace lacuna::test
