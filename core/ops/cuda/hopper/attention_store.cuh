// From a thread's sums to rows of a tensor [N, H, D].
#pragma once

#include "core/cuda/tensor_core.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/attention_work.cuh"

namespace lacuna::cuda::hopper::attention {

// Row `row` of a tile, of its token `token`, among the rows [N, H].
__device__ inline int64_t RowOf(const WorkSizes& work, const WorkTile& tile, int token, int row) {
  return int64_t{tile.first_token + token} * work.sizes.heads + (tile.group << work.rep_shift) +
         (row & ((1 << work.rep_shift) - 1));
}

// factor times the thread's part of its row r (0: g, 1: g + 8) of sums [64, kWidth], to `to`, where
// the row exists. Whole warps. A lane has columns 2t, 2t + 1 of every 8 of a row: neighbours trade one
// of two such pieces, so that each has 4 columns of one, and 4 lanes fill 32 bytes.
template <int kWidth>
__device__ __forceinline__ void StoreRow(BFloat16* to, const float (&sums)[kWidth / 2], int r,
                                         float factor, bool exists) {
  constexpr int kPairs = kWidth / 16;  // of pieces
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
  BFloat16* const own = to + (odd ? FragmentColumn() + 6 : FragmentColumn());
#pragma unroll
  for (int c = 0; c < kPairs; ++c) {
    if (exists) {
      StoreWord(reinterpret_cast<uint2*>(own + 16 * c),
                odd ? uint2{got[c], kept[c]} : uint2{kept[c], got[c]});
    }
  }
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
