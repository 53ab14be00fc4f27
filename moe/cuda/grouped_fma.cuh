// Tiles of f32 products in ordinary arithmetic.
//
//   block tile   128 x 128, depth in slices of 16; 256 threads
//   thread       8 x 8 sums, as 2 x 2 squares of 4 x 4 that lie 64 apart (16-byte shared reads
//                without bank conflicts)
//   shared       two slices of A and B, [depth][row]; the next slice waits in registers while the
//                current one is multiplied, then goes to the other half. One barrier a slice.
//   edges        elements outside are zero; every global access is one element, any shape does.
// A sum runs over the depth in order, so a row's bits do not depend on its place in a tile.
#pragma once

#include "core/cuda/vector.cuh"
#include "moe/cuda/grouped_tile.cuh"

namespace lacuna::cuda {

struct FmaTile {
  using T = float;
  static constexpr int kM = 128, kN = 128, kDepth = 16, kThreads = 256, kBlocksAMultiprocessor = 2;
  static constexpr int kStride = kM + 4;
  static constexpr int kSliceFloats = kDepth * kStride, kShared = 4 * kSliceFloats * 4;
  static constexpr int kLoads = kM * kDepth / kThreads;
  static_assert(kM == kN);

  template <bool kDepthContiguous>
  static __device__ int PlaceOf(int i, int* row) {
    const int index = i * kThreads + threadIdx.x;
    *row = kDepthContiguous ? index / kDepth : index % kM;
    return kDepthContiguous ? index % kDepth : index / kM;
  }
  template <bool kDepthContiguous>
  static __device__ void Fetch(float (&values)[kLoads], const Operand<float>& in, int k0,
                               int depth) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      int row;
      const int k = k0 + PlaceOf<kDepthContiguous>(i, &row);
      const int64_t at = kDepthContiguous ? static_cast<int64_t>(row) * in.stride + k
                                          : static_cast<int64_t>(k) * in.stride + row;
      values[i] = row < in.count && k < depth ? in.data[at] : 0.0f;
    }
  }
  template <bool kDepthContiguous>
  static __device__ void Put(const float (&values)[kLoads], float* slice) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      int row;
      const int k = PlaceOf<kDepthContiguous>(i, &row);
      slice[k * kStride + row] = values[i];
    }
  }

  static __device__ void Multiply(float (&sum)[8][8], const float* a, const float* b) {
    const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float x[8], y[8];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 u = *reinterpret_cast<const float4*>(a + k * kStride + row + half * 64),
                     v = *reinterpret_cast<const float4*>(b + k * kStride + column + half * 64);
        x[half * 4] = u.x, x[half * 4 + 1] = u.y, x[half * 4 + 2] = u.z, x[half * 4 + 3] = u.w;
        y[half * 4] = v.x, y[half * 4 + 1] = v.y, y[half * 4 + 2] = v.z, y[half * 4 + 3] = v.w;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
      }
    }
  }

  template <bool kAccumulate>
  static __device__ void StoreOut(const float (&sum)[8][8], const TileProblem<float, float>& p) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int row = threadIdx.x / 16 * 4 + i / 4 * 64 + i % 4;
      if (row >= p.a.count) continue;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = threadIdx.x % 16 * 4 + half * 64;
        float* const out = p.out + static_cast<int64_t>(row) * p.out_stride + column;
        if (p.out_packable && column + 4 <= p.b.count) {
          Pack<float> pack = {};
          if constexpr (kAccumulate) pack = LoadPack(out);
#pragma unroll
          for (int j = 0; j < 4; ++j) pack.value[j] += sum[i][half * 4 + j];
          StorePack(out, pack);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            if (column + j < p.b.count)
              out[j] = (kAccumulate ? out[j] : 0.0f) + sum[i][half * 4 + j];
          }
        }
      }
    }
  }

  template <bool kADepthContiguous, bool kBDepthContiguous, bool kAccumulate>
  static __device__ void Run(const TileProblem<float, float>& p, char* shared) {
    float* const slices_of_a = reinterpret_cast<float*>(shared);
    float* const slices_of_b = slices_of_a + 2 * kSliceFloats;
    float sum[8][8] = {}, a[kLoads], b[kLoads];
    const int slices = (p.depth + kDepth - 1) / kDepth;
    const auto fetch = [&](int slice) {
      Fetch<kADepthContiguous>(a, p.a, slice * kDepth, p.depth);
      Fetch<kBDepthContiguous>(b, p.b, slice * kDepth, p.depth);
    };
    if (slices > 0) fetch(0);
    for (int slice = 0; slice < slices; ++slice) {
      const int half = slice % 2 * kSliceFloats;
      Put<kADepthContiguous>(a, slices_of_a + half);
      Put<kBDepthContiguous>(b, slices_of_b + half);
      __syncthreads();
      if (slice + 1 < slices) fetch(slice + 1);
      Multiply(sum, slices_of_a + half, slices_of_b + half);
    }
    StoreOut<kAccumulate>(sum, p);
  }
};

}  // namespace lacuna::cuda
