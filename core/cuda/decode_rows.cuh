// Attention of one query head by a block of threads, for any type and width up to 256: a warp takes
// every kth key, its lanes the dimensions. The fast form is core/cuda/decode_tiles.cuh.
#pragma once

#include "core/cuda/fragments.cuh"
#include "core/cuda/launch.cuh"
#include "core/cuda/reduce.cuh"

namespace lacuna::cuda::decode {

inline constexpr int kMostWidth = 256, kParts = kMostWidth / kWarp;
inline constexpr int kHeadThreads = 256, kHeadWarps = kHeadThreads / kWarp;

// Sums of the block's warps; in shared memory.
struct HeadSums {
  float o[kHeadWarps][kMostWidth];
  float shift[kHeadWarps], sum[kHeadWarps];
};

// Keys are rows row_of(i), i < count, k_stride (v_stride) elements apart; scores in units of log 2.
// on_score(i, score) of lane 0. out(c, x): element c of the output, of thread c. Returns the row's
// (shift, sum), to all threads. All threads of the block call it.
template <class T, class RowOf, class OnScore, class Out>
__device__ float2 AttendHead(const T* q, const T* k, const T* v, int64_t k_stride, int64_t v_stride,
                             int dk, int dv, int count, float factor, HeadSums& sums,
                             RowOf&& row_of, OnScore&& on_score, Out&& out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  float query[kParts], o[kParts] = {}, shift = -INFINITY, sum = 0;
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const int c = lane + i * kWarp;
    query[i] = c < dk ? Load(q[c]) : 0.0f;
  }
  for (int key = warp; key < count; key += kHeadWarps) {
    const int64_t row = row_of(key);
    float score = 0;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int c = lane + i * kWarp;
      if (c < dk) score = fmaf(query[i], Load(k[row * k_stride + c]), score);
    }
    score = WarpReduce(score) * factor;
    if (lane == 0) on_score(key, score);
    const float largest = fmaxf(shift, score),
                shrink = shift == -INFINITY ? 0 : exp2f(shift - largest),
                p = exp2f(score - largest);
    sum = sum * shrink + p;
    shift = largest;
#pragma unroll
    for (int i = 0; i < kParts; ++i) {
      const int c = lane + i * kWarp;
      if (c < dv) o[i] = o[i] * shrink + p * Load(v[row * v_stride + c]);
    }
  }
  __syncthreads();
  for (int i = 0; i < kParts; ++i) sums.o[warp][lane + i * kWarp] = o[i];
  if (lane == 0) {
    sums.shift[warp] = shift;
    sums.sum[warp] = sum;
  }
  __syncthreads();
  float most = -INFINITY, total = 0, x = 0;
  for (int w = 0; w < kHeadWarps; ++w) most = fmaxf(most, sums.shift[w]);
  for (int w = 0; w < kHeadWarps; ++w) {
    const float weight = sums.shift[w] == -INFINITY ? 0 : exp2f(sums.shift[w] - most);
    total += weight * sums.sum[w];
    x += weight * sums.o[w][threadIdx.x];
  }
  if (static_cast<int>(threadIdx.x) < dv)
    out(static_cast<int>(threadIdx.x), total == 0 ? 0.0f : x / total);
  return make_float2(most, total);
}

}  // namespace lacuna::cuda::decode
