// Attention of one token: 16 rows are the heads of a group, its keys come in tiles of 16.
//
// Memory is the limit, so every warp keeps its own ring of tiles in shared memory, filled by its own
// asynchronous copies: warps never wait for each other while keys go by. In order of their commits:
//
//   K0 | K1 V0 | K2 V1 ...   tile i is multiplied while K(i + 1) .. K(i + kStages), V(i) .. are on
//                            their way; K has one stage more than V
//
// Each warp sums over its own keys, relative to its own largest score; who merges warps, blocks and
// splits does it in the order of their numbers. Which keys a warp has depends on its sequence alone.
#pragma once

#include "core/cuda/divide.cuh"
#include "core/cuda/tensor_core.cuh"
#include "core/dtype.h"
#include "core/ops/cuda/hopper/attention_softmax.cuh"

namespace lacuna::cuda::decode {

inline constexpr int kWarps = 4, kTileThreads = 32 * kWarps;
inline constexpr int kRows = 16;  // heads of a group, at most
inline constexpr int kKeys = 16;  // of a tile

template <int kKeyWidth, int kValueWidth, int kTileStages>
struct Config {
  static constexpr int kDk = kKeyWidth, kDv = kValueWidth, kStages = kTileStages;
  static constexpr int kSteps = kDk / 16;  // of products over a key
  static constexpr int kKeyBytes = kKeys * 2 * kDk, kValueBytes = kKeys * 2 * kDv;
  static_assert(kDk % 64 == 0 && kDv % 64 == 0);
};

// Rows of a tile lie one behind the other, their pieces of 16 bytes swizzled: piece i of row r has the
// place i ^ r % 8, so that eight rows' pieces are in different banks.
__device__ inline uint32_t Swizzled(int row, int piece) {
  return static_cast<uint32_t>((piece ^ row % 8) * 16);
}

// Keys of a sequence and group, by slots [0, count): rows in order, or those of listed blocks.
struct KeyRows {
  const BFloat16 *k, *v;
  int k_stride, v_stride;  // from row to row, in elements
  int count;
  const int32_t* list = nullptr;
  int block = 1;
  Divider per_block = Divider(1);  // by `block`

  __device__ int Row(int slot) const {
    if (list == nullptr) return slot;
    const int place = static_cast<int>(per_block.Divide(static_cast<uint32_t>(slot)));
    return slot + (list[place] - place) * block;
  }
};

// Starts to copy slots first ... first + 15 of `from`, a warp's tile: eight lanes take a row, 128
// bytes of it at once.
template <int kWidth>
__device__ void StartTile(uint32_t to, const KeyRows& rows, const BFloat16* from, int stride,
                          int first) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int n = 0; n < kKeys; n += 4) {
    const int r = n + lane / 8;
    const bool valid = first + r < rows.count;
    const BFloat16* row = from + int64_t{rows.Row(valid ? first + r : 0)} * stride + lane % 8 * 8;
    const uint32_t at = to + static_cast<uint32_t>(r * 2 * kWidth) + Swizzled(r, lane % 8);
#pragma unroll
    for (int c = 0; c < kWidth; c += 64)
      CopyAsync16(at + static_cast<uint32_t>(2 * c), row + c, valid);
  }
}

// rep rows of kDk elements. Straight to registers: it is done once.
template <class Config>
__device__ void LoadQueries(const BFloat16* queries, int rep, uint32_t (&q)[Config::kSteps][4]) {
#pragma unroll
  for (int step = 0; step < Config::kSteps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = FragmentRow() + i % 2 * 8, column = 16 * step + FragmentColumn() + i / 2 * 8;
      const auto* at = reinterpret_cast<const uint32_t*>(queries + row * Config::kDk + column);
      q[step][i] = row < rep ? *at : 0u;
    }
  }
}

// s[4 j + 2 r + e]: q . k of row FragmentRow() + 8 r and the tile's key 8 j + FragmentColumn() + e.
// Even and odd steps apart: four chains of products.
template <class Config>
__device__ void TileScores(uint32_t k, const uint32_t (&q)[Config::kSteps][4], float (&s)[8]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t row = k + static_cast<uint32_t>((lane % 8 + lane / 16 * 8) * 2 * Config::kDk),
                 piece = Swizzled(lane % 8, lane / 8 % 2);
  float c[2][2][4] = {};
#pragma unroll
  for (int step = 0; step < Config::kSteps; ++step) {
    uint32_t b[4];
    LoadMatrices<false>(b, row + static_cast<uint32_t>(step / 4 * 128) +
                               (piece ^ static_cast<uint32_t>(step % 4 * 32)));
    MultiplyAdd16816(c[step % 2][0], q[step], b[0], b[1]);
    MultiplyAdd16816(c[step % 2][1], q[step], b[2], b[3]);
  }
#pragma unroll
  for (int x = 0; x < 8; ++x) s[x] = c[0][x / 4][x % 4] + c[1][x / 4][x % 4];
}

// o += p v, p a fragment of rows x the tile's keys; of the values' columns those from `column` on, a
// multiple of as many as o has.
template <class Config, int kTiles>
__device__ void AddTileValues(uint32_t v, int column, const uint32_t (&p)[4],
                              float (&o)[kTiles][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint32_t row = v + static_cast<uint32_t>(lane % 16 * 2 * Config::kDv + column / 64 * 128),
                 piece = Swizzled(lane % 8, column % 64 / 8 + lane / 16);
#pragma unroll
  for (int n = 0; n < kTiles; n += 2) {
    uint32_t b[4];
    LoadMatrices<true>(
        b, row + static_cast<uint32_t>(n / 8 * 128) + (piece ^ static_cast<uint32_t>(n % 8 * 16)));
    MultiplyAdd16816(o[n], p, b[0], b[1]);
    MultiplyAdd16816(o[n + 1], p, b[2], b[3]);
  }
}

template <class Config>
struct WarpAttention {
  static constexpr int kStages = Config::kStages;
  static constexpr int kWarpBytes =
      (kStages + 1) * Config::kKeyBytes + kStages * Config::kValueBytes;
  static constexpr int kRingBytes = kWarps * kWarpBytes;

  uint32_t ring;  // the warp's, in shared memory
  uint32_t q[Config::kSteps][4];
  float o[Config::kDv / 8][4];
  hopper::attention::SoftmaxState softmax;
  KeyRows rows;
  int first, tiles;  // the warp has tiles first, first + kWarps, ...

  // Of tiles [begin, end) of `all`, starts to fetch this warp's first ones.
  __device__ void Begin(const KeyRows& all, int begin, int end, int warp) {
    rows = all;
    first = begin + warp;
    tiles = end > first ? (end - first + kWarps - 1) / kWarps : 0;
    StartKeys(0);
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      StartKeys(i + 1);
      StartValues(i);
    }
  }

  // After Begin, with queries. factor: from scores to units of log 2.
  __device__ void Attend(float factor) {
    softmax = {};
#pragma unroll
    for (int n = 0; n < Config::kDv / 8; ++n) o[n][0] = o[n][1] = o[n][2] = o[n][3] = 0;
    for (int i = 0; i < tiles; ++i) {
      WaitCopies<2 * kStages>();
      __syncwarp();
      float s[8];
      TileScores<Config>(KeyStage(i), q, s);
      __syncwarp();
      StartKeys(i + kStages + 1);
      const int left = rows.count - (first + i * kWarps) * kKeys;
#pragma unroll
      for (int x = 0; x < 8; ++x) {
        if (x / 4 * 8 + FragmentColumn() + x % 2 >= left) s[x] = -INFINITY;
      }
      if (softmax.Raise(s, factor)) {
#pragma unroll
        for (int n = 0; n < Config::kDv / 8; ++n) {
#pragma unroll
          for (int x = 0; x < 4; ++x) o[n][x] *= softmax.shrink[x / 2];
        }
      }
      softmax.Exponentiate(s, factor);
      WaitCopies<2 * kStages - 1>();
      __syncwarp();
      const uint32_t p[4] = {PackBFloat16(s[0], s[1]), PackBFloat16(s[2], s[3]),
                             PackBFloat16(s[4], s[5]), PackBFloat16(s[6], s[7])};
      AddTileValues<Config>(ValueStage(i), 0, p, o);
      __syncwarp();
      StartValues(i + kStages);
    }
  }

  // A row's shift and sum; all lanes.
  __device__ float2 RowState(int r) const {
    return make_float2(softmax.shift[r], QuadSum(softmax.sum[r]));
  }

 private:
  __device__ uint32_t KeyStage(int i) const {
    return ring + static_cast<uint32_t>(i % (kStages + 1) * Config::kKeyBytes);
  }
  __device__ uint32_t ValueStage(int i) const {
    return ring + static_cast<uint32_t>((kStages + 1) * Config::kKeyBytes +
                                        i % kStages * Config::kValueBytes);
  }
  __device__ void StartKeys(int i) {
    if (i < tiles)
      StartTile<Config::kDk>(KeyStage(i), rows, rows.k, rows.k_stride,
                             (first + i * kWarps) * kKeys);
    CommitCopies();
  }
  __device__ void StartValues(int i) {
    if (i < tiles)
      StartTile<Config::kDv>(ValueStage(i), rows, rows.v, rows.v_stride,
                             (first + i * kWarps) * kKeys);
    CommitCopies();
  }
};

// A row's largest shift and its sum relative to that, over `count` (shift, sum) pairs in order.
template <class At>
__device__ float2 MergeStates(int count, At&& at) {
  float shift = -INFINITY, sum = 0;
  for (int i = 0; i < count; ++i) shift = fmaxf(shift, at(i).x);
  for (int i = 0; i < count; ++i) {
    const float2 part = at(i);
    if (part.x != -INFINITY)
      sum += part.y * Exp2(part.x - shift);
    else
      sum += part.y;  // 0, or NaN
  }
  return make_float2(shift, sum);
}

// For sums over warps, in place of the rings: f32 rows, two of which lie 8 banks apart.
template <class Config>
inline constexpr int kSumStride = Config::kDv + 8;

// weight[r] o of this warp to its place among the block's sums.
template <class Config>
__device__ void StoreWeighted(const float (&o)[Config::kDv / 8][4], const float (&weight)[2],
                              float* sums, int warp) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float* row = sums + (warp * kRows + FragmentRow() + 8 * r) * kSumStride<Config>;
#pragma unroll
    for (int n = 0; n < Config::kDv / 8; ++n) {
      row[8 * n + FragmentColumn()] = weight[r] * o[n][2 * r];
      row[8 * n + FragmentColumn() + 1] = weight[r] * o[n][2 * r + 1];
    }
  }
}
// Two elements of a row, summed over the warps.
template <class Config>
__device__ float2 SumOverWarps(const float* sums, int row, int column) {
  float2 sum = make_float2(0, 0);
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) {
    const float* at = sums + (warp * kRows + row) * kSumStride<Config> + column;
    sum.x += at[0];
    sum.y += at[1];
  }
  return sum;
}

}  // namespace lacuna::cuda::decode
