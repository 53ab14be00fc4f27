// Backward of SwiGLU behind the product that gives the gradient of its output.
#pragma once

#include "moe/cuda/hopper/store_rows.cuh"

namespace lacuna::cuda::hopper {

// Of the products dh, rounded to bf16, with z = [gate | up] and the routing weight of the row:
//   dz[row] = dSwiGLU(z[row], weight * dh), wh[row] = weight * h
//   dot[s][row] = dh . h over the 64 features of slot s
// z, dz: [R, 2F]   wh: [R, F]   weight: [R]   dot: [ceil(F / 64), R]. dz may be z: a thread writes what
// it has read.
struct StoreSwiGluBwd {
  static constexpr bool kInterleaved = false;
  static constexpr int kFetches = 2;  // steps ahead
  static constexpr int kRows = 16;    // a step: a thread has 8 features of a row

  // Behind the staging of dh: what each thread fetches for itself, gates, ups and a weight, for the
  // next two steps.
  struct Buffers : Staging<kRows, 8> {
    static constexpr int kFetchedBytes = kWarpgroup * (16 + 16 + 4),
                         kBytes = Staging<kRows, 8>::kBytes + kFetches * kFetchedBytes;
    __device__ uint32_t Fetched(int step) const {
      return base + Staging<kRows, 8>::kBytes + step % kFetches * kFetchedBytes;
    }
    __device__ uint32_t Gate(int step) const {
      return Fetched(step) + threadIdx.x % kWarpgroup * 16;
    }
    __device__ uint32_t Up(int step) const { return Gate(step) + kWarpgroup * 16; }
    __device__ uint32_t Weight(int step) const {
      return Fetched(step) + kWarpgroup * 32 + threadIdx.x % kWarpgroup * 4;
    }
  };
  struct Params {
    const BFloat16* z;
    BFloat16 *dz, *wh;
    const float* weight;
    float* dot;
    int64_t rows;
  };

  // Of a thread, in a step.
  struct Place {
    int slot, feature, row;  // the row in the tile
    __device__ Place(const RowTile& tile, int step) {
      const int warpgroup = threadIdx.x / kWarpgroup, thread = threadIdx.x % kWarpgroup;
      slot = tile.feature_tile * (kM / 64) + warpgroup;
      feature = slot * 64 + thread % 8 * 8;
      row = step * kRows + thread / 8;
    }
  };

  static __device__ __forceinline__ void Fetch(const Params& p, int step, const RowTile& tile,
                                               const Buffers& buffers, int features) {
    const Place at(tile, step);
    if (at.row < tile.rows && at.feature < features) {
      const int64_t r = tile.begin + at.row;
      const BFloat16* const gate = p.z + 2 * r * features + at.feature;
      CopyAsync16(buffers.Gate(step), gate);
      CopyAsync16(buffers.Up(step), gate + features);
      CopyAsync4(buffers.Weight(step), p.weight + r);
    }
    CommitCopies();
  }

  static __device__ __forceinline__ void Step(const Params& p, const Pairs (&pairs)[kRows / 16],
                                              int step, const RowTile& tile, Buffers& buffers,
                                              int features) {
    const int warp_piece = threadIdx.x % kWarpgroup / kWarp * 2;
    StoreMatricesTransposed(buffers.MatrixAt(0, warp_piece, warp_piece + 1), pairs[0][0],
                            pairs[0][1], pairs[0][2], pairs[0][3]);
    buffers.Sync();
    WaitCopies<kFetches - 1>();
    const Place at(tile, step);
    const bool inside = at.row < tile.rows && at.feature < features;
    uint4 gates = LoadShared16(buffers.Gate(step)), ups = LoadShared16(buffers.Up(step)),
          dhs = LoadShared16(buffers.At(at.row % kRows, threadIdx.x % 8));
    const float weight = LoadShared4(buffers.Weight(step));
    float dot = Pair(weight, gates.x, ups.x, dhs.x);
    dot += Pair(weight, gates.y, ups.y, dhs.y);
    dot += Pair(weight, gates.z, ups.z, dhs.z);
    dot += Pair(weight, gates.w, ups.w, dhs.w);
    if (!inside) dot = 0;
#pragma unroll
    for (int lanes = 1; lanes < 8; lanes *= 2) dot += __shfl_xor_sync(0xFFFFFFFFu, dot, lanes);
    if (inside) {
      const int64_t r = tile.begin + at.row;
      BFloat16* const dgate = p.dz + 2 * r * features + at.feature;
      StoreWord(reinterpret_cast<uint4*>(dgate), gates);
      StoreWord(reinterpret_cast<uint4*>(dgate + features), ups);
      StoreWord(reinterpret_cast<uint4*>(p.wh + r * features + at.feature), dhs);
      if (threadIdx.x % 8 == 0) p.dot[at.slot * p.rows + r] = dot;
    }
    buffers.turn ^= 1;
  }

  // Two features: the gradients take the places of gate and up, weight * h that of dh. Returns dh . h.
  static __device__ __forceinline__ float Pair(float weight, uint32_t& gate, uint32_t& up,
                                               uint32_t& dh) {
    const float a0 = LowOf(gate), a1 = HighOf(gate), u0 = LowOf(up), u1 = HighOf(up),
                d0 = LowOf(dh), d1 = HighOf(dh), s0 = FastSigmoid(a0), s1 = FastSigmoid(a1),
                h0 = a0 * s0 * u0, h1 = a1 * s1 * u1;
    const SwiGluGradient g0 = SwiGluBackward(a0, u0, s0, weight * d0),
                         g1 = SwiGluBackward(a1, u1, s1, weight * d1);
    gate = PackBFloat16(g0.gate, g1.gate);
    up = PackBFloat16(g0.up, g1.up);
    dh = PackBFloat16(weight * h0, weight * h1);
    return fmaf(d1, h1, d0 * h0);
  }
};

}  // namespace lacuna::cuda::hopper
