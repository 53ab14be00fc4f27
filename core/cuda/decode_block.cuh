// Attention of one token by a block whose four warps share a tile of 64 keys: a warp has the scores of
// 16 of them and a fourth of the outputs' columns. It takes a fourth of the registers that warps with
// all columns do (core/cuda/decode_tiles.cuh), so that three blocks are on a multiprocessor and one
// reads while another meets its cluster.
//
//   K: the warp's own ring, filled and read by it alone    V: of the block
//   scores -> the tile's largest ones, in shared memory -> exponentials, in shared memory -> sums
//
// In order of their commits: K0 V0 | K1 V1 | ..., kStages tiles on their way at once. The bits do not
// depend on kStages.
#pragma once

#include "core/cuda/decode_tiles.cuh"

namespace lacuna::cuda::decode {

template <class Config>
struct BlockAttention {
  static constexpr int kStages = Config::kStages;
  static constexpr int kBlockKeys = kWarps * kKeys;                     // of a tile
  static constexpr int kColumns = Config::kDv / kWarps;                 // of the outputs, a warp's
  static constexpr int kValues = kStages * kWarps * Config::kKeyBytes;  // behind the keys
  static constexpr int kRingBytes = kValues + kStages * kWarps * Config::kValueBytes;
  static constexpr int kWeightBytes = kRows * kBlockKeys * 2;
  static constexpr int kRowFloats = kWarps * kRows;  // of the warps' largest scores, and sums

  uint32_t ring, weights;  // in shared memory; weights are free between calls
  float* of_warps;         // [kRows][kWarps], there
  int warp;
  uint32_t q[Config::kSteps][4];
  float o[kColumns / 8][4];  // rows as in fragments, columns from warp * kColumns on
  hopper::attention::SoftmaxState softmax;
  KeyRows rows;
  int first, tiles;  // the block's first slot

  // Of slots [begin, end) of `all`, starts to fetch the first ones. All threads.
  __device__ void Begin(const KeyRows& all, int begin, int end) {
    rows = all;
    rows.count = end;
    first = begin;
    tiles = (end - begin + kBlockKeys - 1) / kBlockKeys;
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      StartKeys(i);
      StartValues(i);
    }
  }

  // After Begin, with queries, all threads. on_scores(key, s): s[4 j + 2 r + e] is q . k of row
  // FragmentRow() + 8 r and the block's key `key` + 8 j + FragmentColumn() + e, -inf where there is
  // none; of warps that have keys. factor: from these to units of log 2.
  template <class OnScores>
  __device__ void Attend(float factor, OnScores&& on_scores) {
    softmax = {};
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) o[n][0] = o[n][1] = o[n][2] = o[n][3] = 0;
    for (int i = 0; i < tiles; ++i) {
      WaitCopies<2 * kStages - 1>();
      __syncwarp();
      float s[8];
      TileScores<Config>(KeyStage(i), q, s);
      __syncwarp();
      StartKeys(i + kStages);
      const int key = i * kBlockKeys + warp * kKeys, left = rows.count - first - key;
#pragma unroll
      for (int x = 0; x < 8; ++x) {
        if (x / 4 * 8 + FragmentColumn() + x % 2 >= left) s[x] = -INFINITY;
      }
      if (left > 0) on_scores(key, s);
      RaiseTogether(s, factor);
      softmax.Exponentiate(s, factor);
      StoreWeights(s);
      WaitCopies<2 * kStages - 1>();
      __syncthreads();
#pragma unroll
      for (int part = 0; part < kWarps; ++part) {
        uint32_t p[4];
        LoadWeights(part, p);
        AddTileValues<Config>(ValueStage(i) + static_cast<uint32_t>(part * Config::kValueBytes),
                              warp * kColumns, p, o);
      }
      __syncthreads();
      StartValues(i + kStages);
    }
  }

  // (shift, sum) of the block's rows to states[kRows], in shared memory. All threads.
  __device__ void StoreStates(float2* states) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float sum = QuadSum(softmax.sum[r]);
      if (threadIdx.x % 4 == 0) of_warps[(FragmentRow() + 8 * r) * kWarps + warp] = sum;
    }
    __syncthreads();
    if (warp > 0 || threadIdx.x % 4 != 0) return;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = FragmentRow() + 8 * r;
      float sum = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum += of_warps[row * kWarps + w];
      states[row] = make_float2(softmax.shift[r], sum);
    }
  }

 private:
  __device__ uint32_t KeyStage(int i) const {
    return ring + static_cast<uint32_t>((warp * kStages + i % kStages) * Config::kKeyBytes);
  }
  __device__ uint32_t ValueStage(int i) const {
    return ring + static_cast<uint32_t>(kValues + i % kStages * kWarps * Config::kValueBytes);
  }
  __device__ void StartKeys(int i) {
    if (i < tiles)
      StartTile<Config::kDk>(KeyStage(i), rows, rows.k, rows.k_stride,
                             first + i * kBlockKeys + warp * kKeys);
    CommitCopies();
  }
  __device__ void StartValues(int i) {
    if (i < tiles)
      StartTile<Config::kDv>(ValueStage(i) + static_cast<uint32_t>(warp * Config::kValueBytes),
                             rows, rows.v, rows.v_stride, first + i * kBlockKeys + warp * kKeys);
    CommitCopies();
  }

  // The shifts are the same in all warps: a lane of a row takes the largest score of one warp.
  __device__ void RaiseTogether(const float (&s)[8], float factor) {
    float largest[4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float own =
          QuadMax(fmaxf(fmaxf(s[2 * r], s[2 * r + 1]), fmaxf(s[2 * r + 4], s[2 * r + 5])));
      if (threadIdx.x % 4 == 0) of_warps[(FragmentRow() + 8 * r) * kWarps + warp] = own;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; ++r)
      largest[2 * r] = largest[2 * r + 1] =
          of_warps[(FragmentRow() + 8 * r) * kWarps + static_cast<int>(threadIdx.x) % 4];
    if (!softmax.Raise(largest, factor)) return;
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
      for (int x = 0; x < 4; ++x) o[n][x] *= softmax.shrink[x / 2];
    }
  }

  // Weights: rows of 64 keys, swizzled as tiles are.
  __device__ void StoreWeights(const float (&p)[8]) const {
#pragma unroll
    for (int x = 0; x < 8; x += 2) {
      const int row = FragmentRow() + x % 4 / 2 * 8;
      StoreShared4(weights + static_cast<uint32_t>(row * kBlockKeys * 2 + FragmentColumn() * 2) +
                       Swizzled(row, warp * 2 + x / 4),
                   __uint_as_float(PackBFloat16(p[x], p[x + 1])));
    }
  }
  // Those of warp `part`, as a fragment.
  __device__ void LoadWeights(int part, uint32_t (&p)[4]) const {
    const int lane = static_cast<int>(threadIdx.x) % 32, row = lane % 16;
    LoadMatrices<false>(p, weights + static_cast<uint32_t>(row * kBlockKeys * 2) +
                               Swizzled(row, part * 2 + lane / 16));
  }
};

}  // namespace lacuna::cuda::decode
