// From a thread's sums to rows of a tensor [N, H, D].
#pragma once

#include "core/cuda/gated_sum.cuh"
#include "core/cuda/tensor_core.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/attention_work.cuh"

namespace lacuna::cuda::hopper::attention {

// Row `row` of a tile, of its token `token`, among the rows [N, H].
__device__ inline int64_t RowOf(const WorkSizes& work, const WorkTile& tile, int token, int row) {
  return int64_t{tile.first_token + token} * work.sizes.heads + (tile.group << work.rep_shift) +
         (row & ((1 << work.rep_shift) - 1));
}

// A lane has columns 2t, 2t + 1 of every 8 of a row: neighbours trade one of two such pieces, so that
// each has 4 columns of one, and 4 lanes fill 32 bytes. Piece c: columns [FirstColumn + 16 c, + 4).
template <int kWidth>
struct RowPieces {
  static constexpr int kCount = kWidth / 16;
  uint2 piece[kCount];
};
__device__ inline int FirstColumn() {
  return threadIdx.x % 2 != 0 ? FragmentColumn() + 6 : FragmentColumn();
}

// factor times the thread's part of its row r (0: g, 1: g + 8) of sums [64, kWidth]. Whole warps.
template <int kWidth>
__device__ __forceinline__ RowPieces<kWidth> TradePieces(const float (&sums)[kWidth / 2], int r,
                                                         float factor) {
  constexpr int kPairs = RowPieces<kWidth>::kCount;
  const bool odd = threadIdx.x % 2 != 0;
  uint32_t kept[kPairs], got[kPairs];
#pragma unroll
  for (int c = 0; c < kPairs; ++c) {
    const int j = 8 * c + 2 * r;
    const uint32_t first = PackBFloat16(sums[j] * factor, sums[j + 1] * factor),
                   second = PackBFloat16(sums[j + 4] * factor, sums[j + 5] * factor);
    kept[c] = odd ? second : first;
    got[c] = __shfl_xor_sync(0xFFFFFFFFu, odd ? first : second, 1);
  }
  RowPieces<kWidth> row;
#pragma unroll
  for (int c = 0; c < kPairs; ++c)
    row.piece[c] = odd ? uint2{got[c], kept[c]} : uint2{kept[c], got[c]};
  return row;
}
// To the row at `to`, if it exists.
template <int kWidth>
__device__ __forceinline__ void StorePieces(BFloat16* to, const RowPieces<kWidth>& row,
                                            bool exists) {
  BFloat16* const own = to + FirstColumn();
#pragma unroll
  for (int c = 0; c < RowPieces<kWidth>::kCount; ++c) {
    if (exists) StoreWord(reinterpret_cast<uint2*>(own + 16 * c), row.piece[c]);
  }
}
template <int kWidth>
__device__ __forceinline__ void StoreRow(BFloat16* to, const float (&sums)[kWidth / 2], int r,
                                         float factor, bool exists) {
  StorePieces<kWidth>(to, TradePieces<kWidth>(sums, r, factor), exists);
}

// A row's output in the gated sum of three (nsa/gate_combine.h): sum = g[0] a + g[1] own + g[2] b, all
// rows of [N, H, kWidth]. No sum where `sum` is null.
struct GatedSum {
  const float* gates;  // [N, H, 3]
  const BFloat16 *a, *b;
  BFloat16* sum;
};
template <int kWidth>
__device__ __forceinline__ void StoreGatedSum(const GatedSum& gated, int64_t at,
                                              const RowPieces<kWidth>& own, bool exists) {
  if (!exists) return;
  const float* const g = gated.gates + 3 * at;
  const float gates[3] = {g[0], g[1], g[2]};
  const int64_t first = at * kWidth + FirstColumn();
  RowPieces<kWidth> a, b, sum;
#pragma unroll
  for (int c = 0; c < RowPieces<kWidth>::kCount; ++c) {
    a.piece[c] = *reinterpret_cast<const uint2*>(gated.a + first + 16 * c);
    b.piece[c] = *reinterpret_cast<const uint2*>(gated.b + first + 16 * c);
  }
  const auto of_pair = [&](uint32_t x, uint32_t y, uint32_t z) {
    const auto low = [](uint32_t pair) { return __uint_as_float(pair << 16); };
    const auto high = [](uint32_t pair) { return __uint_as_float(pair & 0xFFFF0000u); };
    return PackBFloat16(WeightedSum(gates, low(x), low(y), low(z)),
                        WeightedSum(gates, high(x), high(y), high(z)));
  };
#pragma unroll
  for (int c = 0; c < RowPieces<kWidth>::kCount; ++c) {
    sum.piece[c] = {of_pair(a.piece[c].x, own.piece[c].x, b.piece[c].x),
                    of_pair(a.piece[c].y, own.piece[c].y, b.piece[c].y)};
  }
  StorePieces<kWidth>(gated.sum + at * kWidth, sum, true);
}

// Adds factor times what `from` holds of the thread's part of its row r, if the row exists.
template <int kWidth>
__device__ __forceinline__ void AddRow(const BFloat16* from, float (&sums)[kWidth / 2], int r,
                                       float factor, bool exists) {
  uint32_t pairs[kWidth / 8];
#pragma unroll
  for (int c = 0; c < kWidth / 8; ++c) {
    pairs[c] = exists ? *reinterpret_cast<const uint32_t*>(from + 8 * c + FragmentColumn()) : 0;
  }
#pragma unroll
  for (int c = 0; c < kWidth / 8; ++c) {
    sums[4 * c + 2 * r] += __uint_as_float(pairs[c] << 16) * factor;
    sums[4 * c + 2 * r + 1] += __uint_as_float(pairs[c] & 0xFFFF0000u) * factor;
  }
}

}  // namespace lacuna::cuda::hopper::attention
