// Starting the kernels of this folder.
#pragma once

#include "core/cuda/launch.cuh"
#include "core/cuda/runtime.h"
#include "core/cuda/tensor_map.h"
#include "core/cuda/vector.cuh"
#include "core/tensor_ref.h"
#include "moe/cuda/hopper/tile.cuh"

namespace lacuna::cuda::hopper {

template <class... Parameters>
bool HasCode(void (*kernel)(Parameters...), Stream stream) {
  static const bool has =
      HasHopperCode(reinterpret_cast<const void*>(kernel), ComputeMajor(stream));
  return has;
}

// Shared memory a block can have.
inline constexpr int64_t kMaxShared = 227 * 1024;

inline bool IsPackable(const TensorRef& t) {
  return t.dtype == DType::kBF16 && Packable<BFloat16>(t.data, t.dim(t.rank - 1));
}

// Matrices by rows [N, C], in boxes of `rows` rows of 64.
inline CUtensorMap RowsMap(const TensorRef& x, int rows) {
  return MakeTensorMap(x.data, {{x.dim(1), 1, 64}, {x.dim(0), x.dim(1), rows}});
}

// One block a multiprocessor, in whole clusters.
template <class Params>
void LaunchPersistent(void (*kernel)(Params), int64_t shared, Stream stream, const Params& params) {
  LaunchGrid(kernel, dim3(static_cast<unsigned>(NumMultiprocessors(stream) / kCluster * kCluster)),
             dim3(kThreads), shared, stream, params);
}

}  // namespace lacuna::cuda::hopper
