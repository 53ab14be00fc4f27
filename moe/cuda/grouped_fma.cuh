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

  // A thread's part in moving the slices of an operand, one after the other: kLoads elements that
  // lie kApart rows (of memory) apart, through registers.
  template <bool kDepthContiguous>
  struct SliceCopy {
    static constexpr int kInner = kDepthContiguous ? kDepth : kM, kApart = kThreads / kInner;

    __device__ SliceCopy(const Operand<float>& in, int depth) : stride(in.stride) {
      const int outer = threadIdx.x / kInner, inner = threadIdx.x % kInner;
      source = in.data + static_cast<int64_t>(outer) * stride + inner;
      outer_left = (kDepthContiguous ? in.count : depth) - outer;
      inner_left = (kDepthContiguous ? depth : in.count) - inner;
      target = kDepthContiguous ? inner * kStride + outer : outer * kStride + inner;
    }

    __device__ void Fetch() {
      const float* at = source;
#pragma unroll
      for (int i = 0; i < kLoads; ++i, at += static_cast<int64_t>(kApart) * stride)
        values[i] = inner_left > 0 && outer_left > i * kApart ? *at : 0.0f;
      (kDepthContiguous ? inner_left : outer_left) -= kDepth;
      source += kDepthContiguous ? kDepth : static_cast<int64_t>(kDepth) * stride;
    }
    __device__ void Put(float* slice) const {
#pragma unroll
      for (int i = 0; i < kLoads; ++i)
        slice[target + i * kApart * (kDepthContiguous ? 1 : kStride)] = values[i];
    }

    const float* source;
    int stride, outer_left, inner_left, target;
    float values[kLoads];
  };

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
    SliceCopy<kADepthContiguous> copy_a(p.a, p.depth);
    SliceCopy<kBDepthContiguous> copy_b(p.b, p.depth);
    float sum[8][8] = {};
    const int slices = (p.depth + kDepth - 1) / kDepth;
    const auto fetch = [&] {
      copy_a.Fetch();
      copy_b.Fetch();
    };
    if (slices > 0) fetch();
    for (int slice = 0; slice < slices; ++slice) {
      const int half = slice % 2 * kSliceFloats;
      copy_a.Put(slices_of_a + half);
      copy_b.Put(slices_of_b + half);
      __syncthreads();
      if (slice + 1 < slices) fetch();
      Multiply(sum, slices_of_a + half, slices_of_b + half);
    }
    StoreOut<kAccumulate>(sum, p);
  }
};

}  // namespace lacuna::cuda
