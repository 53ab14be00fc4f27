// The selection blocks that the tokens of a tile chose between them, each once, with a bit for every
// token that chose it: tokens next to one another choose much the same, and a tile of keys brought
// once serves all of them.
//
// A warp a tile and group, kBlocksAtOnce blocks at a time: the choices set bits in shared memory, the
// bits before a block are its place in the union, and the tokens' bits meet there.
//
// Order: blocks that only one warpgroup's tokens chose take turns between the warpgroups, so that
// these find work side by side in the few blocks under way; then those that several chose. Within
// that ascending.
#pragma once

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/hopper.cuh"
#include "core/cuda/reduce.cuh"

namespace lacuna::cuda::hopper {

struct UnionBlock {
  int block;        // of the document
  uint32_t tokens;  // bit i: token i of the tile chose it
};

struct UnionListSizes {
  AttentionSizes sizes;
  int tile_tokens;                   // at most 32
  int warpgroup_tokens, warpgroups;  // of a tile
  int slots;                         // of tiles, see core/cuda/attention_tiles.cuh
  int places;                        // blocks a token
  int select_block;

  __host__ __device__ int capacity() const { return tile_tokens * places; }
  __host__ __device__ int64_t lists() const { return int64_t{slots} * sizes.groups; }
};

inline constexpr int kUnionClasses = 4;  // warpgroups, and what several of them share
inline constexpr int kUnionWords = 64, kBlocksAtOnce = 32 * kUnionWords, kUnionWarps = 4;

inline int64_t UnionListsShared(const UnionListSizes& u) {
  return kUnionWarps * (2 * kUnionWords + 2 * int64_t{u.capacity()}) * 4;
}

// The warpgroup whose tokens alone are among the bits, or `warpgroups` where there are more.
__device__ inline int OnlyWarpgroup(const UnionListSizes& u, uint32_t tokens) {
  const int first = (__ffs(static_cast<int>(tokens)) - 1) / u.warpgroup_tokens,
            last = (31 - __clz(static_cast<int>(tokens))) / u.warpgroup_tokens;
  return first == last ? first : u.warpgroups;
}

// A warp. names, tokens: [total] ascending.
__device__ inline void PutInOrder(const UnionListSizes& u, const int* names, const uint32_t* tokens,
                                  int total, UnionBlock* out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  int counts[kUnionClasses] = {};
  for (int first = 0; first < total; first += kWarp) {
    const int i = first + lane, only = i < total ? OnlyWarpgroup(u, tokens[i]) : kUnionClasses;
#pragma unroll
    for (int c = 0; c < kUnionClasses; ++c)
      counts[c] += __popc(__ballot_sync(0xFFFFFFFFu, only == c));
  }
  int alone = 0;  // blocks of one warpgroup
#pragma unroll
  for (int c = 0; c < kUnionClasses; ++c) alone += c < u.warpgroups ? counts[c] : 0;
  int before[kUnionClasses] = {};
  for (int first = 0; first < total; first += kWarp) {
    const int i = first + lane, only = i < total ? OnlyWarpgroup(u, tokens[i]) : kUnionClasses;
    int place = 0;
#pragma unroll
    for (int c = 0; c < kUnionClasses; ++c) {
      const unsigned same = __ballot_sync(0xFFFFFFFFu, only == c);
      if (only == c) {
        const int rank = before[c] + __popc(same & ((1u << lane) - 1));
        place = c == u.warpgroups ? alone + rank : 0;
        if (c < u.warpgroups) {
#pragma unroll
          for (int other = 0; other < kUnionClasses; ++other)
            place += other < u.warpgroups ? min(counts[other], rank + (other < c)) : 0;
        }
      }
      before[c] += __popc(same);
    }
    if (i < total) out[place] = {names[i], tokens[i]};
  }
}

// blocks: [N, G, places]   counts: [lists]   unions: [lists, capacity]; list group * slots + slot.
// Blocks outside the document are left out.
static __global__ void __launch_bounds__(kUnionWarps* kWarp)
    UnionListsKernel(UnionListSizes u, const int32_t* blocks, int* counts, UnionBlock* unions) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  uint32_t* const bits =
      reinterpret_cast<uint32_t*>(DynamicShared()) + warp * (2 * kUnionWords + 2 * u.capacity());
  uint32_t* const before = bits + kUnionWords;  // set bits in the words before
  uint32_t* const tokens = before + kUnionWords;
  int* const names = reinterpret_cast<int*>(tokens + u.capacity());

  const int64_t list = int64_t{blockIdx.x} * kUnionWarps + warp;
  if (list >= u.lists()) return;
  const int group = static_cast<int>(list / u.slots);
  int64_t index = 0;
  const int d = OwnerOfSlot(u.sizes.cu_queries, u.sizes.documents, int64_t{1}, u.tile_tokens,
                            list % u.slots, &index);
  const int64_t first = u.sizes.cu_queries[d] + index * u.tile_tokens;
  const int count = static_cast<int>(
      max(int64_t{0}, min(int64_t{u.tile_tokens}, u.sizes.cu_queries[d + 1] - first)));
  const int choices = count * u.places,
            num_blocks =
                (u.sizes.cu_keys[d + 1] - u.sizes.cu_keys[d] + u.select_block - 1) / u.select_block;
  const auto choice = [&](int i) {
    const int32_t j =
        blocks[((first + i / u.places) * u.sizes.groups + group) * u.places + i % u.places];
    return j < num_blocks ? j : -1;
  };
  for (int i = lane; i < u.capacity(); i += kWarp) tokens[i] = 0;
  int last = -1;
  for (int i = lane; i < choices; i += kWarp) last = max(last, choice(i));
  last = __reduce_max_sync(0xFFFFFFFFu, last);

  int total = 0;
  for (int begin = 0; begin <= last; begin += kBlocksAtOnce) {
    for (int w = lane; w < kUnionWords; w += kWarp) bits[w] = 0;
    __syncwarp();
    for (int i = lane; i < choices; i += kWarp) {
      const int j = choice(i) - begin;
      if (j >= 0 && j < kBlocksAtOnce) atomicOr(bits + j / 32, 1u << j % 32);
    }
    __syncwarp();
    for (int w = lane; w < kUnionWords; w += kWarp) {
      const int mine = __popc(bits[w]);
      int up_to = mine;
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFFu, up_to, offset);
        if (lane >= offset) up_to += other;
      }
      before[w] = total + up_to - mine;
      total += __shfl_sync(0xFFFFFFFFu, up_to, kWarp - 1);
    }
    __syncwarp();
    for (int i = lane; i < choices; i += kWarp) {
      const int j = choice(i) - begin;
      if (j < 0 || j >= kBlocksAtOnce) continue;
      const int place =
          static_cast<int>(before[j / 32]) + __popc(bits[j / 32] & ((1u << j % 32) - 1));
      atomicOr(tokens + place, 1u << i / u.places);
      names[place] = begin + j;  // the same from all
    }
    __syncwarp();
  }
  PutInOrder(u, names, tokens, total, unions + list * u.capacity());
  if (lane == 0) counts[list] = total;
}

}  // namespace lacuna::cuda::hopper
