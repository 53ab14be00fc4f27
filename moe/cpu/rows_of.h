// Rows [begin, end) of a matrix.
#pragma once

#include <cstdint>

#include "core/tensor_ref.h"

namespace lacuna::cpu {

inline TensorRef RowsOf(TensorRef x, int64_t begin, int64_t end) {
  x.data = x.As<char>() + begin * x.dim(1) * SizeOf(x.dtype);
  x.shape[0] = end - begin;
  return x;
}

}  // namespace lacuna::cpu
