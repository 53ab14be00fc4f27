// Sums and maxima over warps and blocks, in a fixed order.
#pragma once

#include <cuda_runtime.h>

namespace lacuna::cuda {

inline constexpr int kWarp = 32;

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Every lane gets the result; lanes combine in a butterfly, so all of them hold the same bits.
template <int kLanes = kWarp, class T, class Op = Plus>
__device__ T WarpReduce(T value, Op op = {}) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    value = op(value, __shfl_xor_sync(0xFFFFFFFFu, value, offset));
  return value;
}

// Every thread gets the result. All threads of the block call it; `scratch` holds one value a warp.
// `identity` is the operation's neutral element. The second one's scratch may be reused after the
// call; the first one's only after a barrier, which saves one where calls take turns with two.
template <class T, class Op = Plus>
__device__ T BlockReduceOnce(T value, T* scratch, T identity = T(0), Op op = {}) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp,
            warps = (blockDim.x + kWarp - 1) / kWarp;
  value = WarpReduce(value, op);
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return WarpReduce(lane < warps ? scratch[lane] : identity, op);
}
template <class T, class Op = Plus>
__device__ T BlockReduce(T value, T* scratch, T identity = T(0), Op op = {}) {
  value = BlockReduceOnce(value, scratch, identity, op);
  __syncthreads();
  return value;
}

}  // namespace lacuna::cuda
