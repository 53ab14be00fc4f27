// The keys of attention to selected blocks on Hopper, as core/ops/cuda/hopper/attention_work.cuh
// has them: a tile meets the union of its tokens' blocks, a row those of its token.
#pragma once

#include "core/ops/cuda/hopper/attention_work.cuh"
#include "nsa/cuda/hopper/union_lists.cuh"

namespace lacuna::cuda::hopper {

// Key tile i of a tile is block i of its union, kBlock keys.
template <int kBlock>
struct ListKeys {
  static constexpr bool kLists = true;

  const int* counts;
  const UnionBlock* unions;
  const int32_t* positions;  // of the tokens in their documents
  int capacity;
  int warpgroup_tokens;

  __device__ void Plan(const AttentionSizes& sizes, attention::WorkTile& tile) const {
    tile.first_key = sizes.cu_keys[tile.document];
    tile.key_tiles = counts[tile.slot];
    tile.whole_begin = tile.whole_end = 0;
  }
  __device__ const UnionBlock* ListOf(const attention::WorkTile& tile) const {
    return unions + int64_t{tile.slot} * capacity;
  }
  __device__ int KeyOf(const attention::WorkTile& tile, int key_tile) const {
    return tile.first_key + ListOf(tile)[key_tile].block * kBlock;
  }

  // The two rows of a thread's fragments: columns 8 j + 2 t and the next of a key tile are its keys.
  struct Rows {
    const uint2* list;
    uint32_t warpgroup;  // bits of its tokens
    uint32_t token[2];   // bits
    int position[2];     // counted from the thread's first key of block 0

    __device__ Rows(const ListKeys& keys, const attention::WorkTile& tile, const int (&of)[2])
        : list(reinterpret_cast<const uint2*>(keys.ListOf(tile))) {
      const int first = static_cast<int>(threadIdx.x) / kWarpgroup * keys.warpgroup_tokens;
      warpgroup = ((1u << keys.warpgroup_tokens) - 1) << first;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const bool exists = of[r] < tile.tokens;
        token[r] = exists ? 1u << of[r] : 0;
        position[r] = exists ? keys.positions[tile.first_token + of[r]] - FragmentColumn() : 0;
      }
    }
    __device__ uint2 Entry(int i) const {
      return __ldg(list + i);
    }
    // The last of entries [0, from] that a token of the warpgroup chose, or -1. Whole warps.
    __device__ int NextChosen(int from) const {
      const int lane = static_cast<int>(threadIdx.x) % kWarp;
      for (; from >= 0; from -= kWarp) {
        const int i = from - lane;
        const unsigned chosen =
            __ballot_sync(0xFFFFFFFFu, i >= 0 && (Entry(max(i, 0)).y & warpgroup) != 0);
        if (chosen != 0) return Uniform(from + 1 - __ffs(static_cast<int>(chosen)));
      }
      return -1;
    }
    // Scores of keys behind the token, and of blocks that it did not choose, become -inf.
    __device__ __forceinline__ void Mask(float (&s)[kBlock / 2], const uint2& entry) const {
      int bound[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        bound[r] =
            (entry.y & token[r]) != 0 ? position[r] + 1 - static_cast<int>(entry.x) * kBlock : 0;
      }
      if (__all_sync(0xFFFFFFFFu, min(bound[0], bound[1]) >= kBlock)) return;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int j = 0; j < kBlock / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& x = s[4 * j + 2 * r + e];
            x = 8 * j + e < bound[r] ? x : -INFINITY;
          }
        }
      }
    }
  };
};

}  // namespace lacuna::cuda::hopper
