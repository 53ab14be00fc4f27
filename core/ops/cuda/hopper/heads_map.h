// How the copy engine sees tensors [N, H, D] of the attention kernels.
#pragma once

#include "core/cuda/tensor_map.h"
#include "core/tensor_ref.h"

namespace lacuna::cuda::hopper::attention {

// Boxes of 64 columns, `heads` heads and `rows` rows.
inline CUtensorMap HeadsMap(const TensorRef& x, int heads, int rows) {
  const int64_t width = x.dim(2), all = x.dim(1);
  return MakeTensorMap(x.data,
                       {{width, 1, 64}, {all, width, heads}, {x.dim(0), all * width, rows}});
}

}  // namespace lacuna::cuda::hopper::attention
