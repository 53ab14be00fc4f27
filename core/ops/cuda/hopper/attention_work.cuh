// What a block of Hopper attention works on, and which keys it meets.
//
// A tile is some rows (token, head of the group), tokens first, of one document and group: all
// heads of a group meet a tile of keys together. One thread of the block plans a tile and publishes
// it in shared memory; a key policy says which tiles of keys it meets and which of their keys a row
// sees.
#pragma once

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/reduce.cuh"

namespace lacuna::cuda::hopper::attention {

struct alignas(16) WorkTile {
  int first_token;
  int tokens;  // there are; 0: nothing is left to do
  int group;
  int first_key, key_tiles;    // row of k that key tile 0 starts at, and their number
  int whole_begin, whole_end;  // key tiles of which every row sees all keys
  int slot;                    // among those of all groups
  int document;
};

// Sizes of a call. Slots are those of core/cuda/attention_tiles.cuh, tiles of tile_tokens tokens.
struct WorkSizes {
  AttentionSizes sizes;
  int slots, tile_tokens;
  int rep_shift;  // log2 of the heads in a group
  int groups_together;
  int* taken;  // slots of all groups that blocks have taken
};

// Keys [ranges[n, 0], ranges[n, 1]) of token n, in tiles of kKeys from the first key that the first
// token sees: where a tile starts depends on nothing outside the document.
template <int kKeys>
struct RangeKeys {
  static constexpr bool kLists = false;

  const int32_t* ranges;

  __device__ void Plan(const AttentionSizes&, WorkTile& tile) const {
    const int32_t *first = ranges + 2 * int64_t{tile.first_token},
                  *last = first + 2 * (tile.tokens - 1);
    const int begin = first[0], first_end = first[1], last_begin = last[0], end = last[1];
    tile.first_key = begin;
    tile.key_tiles = max(0, end - begin + kKeys - 1) / kKeys;
    tile.whole_begin = (last_begin - begin + kKeys - 1) / kKeys;
    tile.whole_end = max(0, first_end - begin) / kKeys;
  }
  __device__ int KeyOf(const WorkTile& tile, int key_tile) const {
    return tile.first_key + key_tile * kKeys;
  }

  // The two rows of a thread's fragments: columns 8 j + 2 t and the next of a key tile are its keys.
  struct Rows {
    int begin[2], end[2];  // counted from the thread's first key of key tile 0
    int whole_begin, whole_end;

    __device__ Rows(const RangeKeys& keys, const WorkTile& tile, const int (&token)[2])
        : whole_begin(tile.whole_begin), whole_end(tile.whole_end) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        begin[r] = end[r] = 0;
        if (token[r] >= tile.tokens) continue;
        const int2 range = reinterpret_cast<const int2*>(keys.ranges)[tile.first_token + token[r]];
        begin[r] = range.x - tile.first_key - FragmentColumn();
        end[r] = range.y - tile.first_key - FragmentColumn();
      }
    }
    // Every key tile is met; it is its own entry.
    __device__ int NextChosen(int from) const {
      return from;
    }
    __device__ int Entry(int i) const {
      return i;
    }
    __device__ __forceinline__ void Mask(float (&s)[kKeys / 2], int i) const {
      if (i >= whole_end) Mask<true>(s, i);
      if (i < whole_begin) Mask<false>(s, i);
    }
    // Scores of keys from the rows' ends on become -inf; or those before their beginnings.
    template <bool kEnds>
    __device__ __forceinline__ void Mask(float (&s)[kKeys / 2], int key_tile) const {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int bound = (kEnds ? end[r] : begin[r]) - key_tile * kKeys;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& x = s[4 * j + 2 * r + e];
            x = (8 * j + e < bound) == kEnds ? x : -INFINITY;
          }
        }
      }
    }
  };
};

// The next tile that no block has taken; false: none is left. A few groups' tiles are taken together,
// so that blocks share these groups' keys in L2: the last tokens, which see most, first.
template <class Keys>
__device__ bool TakeTile(const WorkSizes& w, const Keys& keys, WorkTile& tile) {
  while (true) {
    const int position = atomicAdd(w.taken, 1);
    if (position >= w.slots * w.sizes.groups) return false;
    const int first_group = position / (w.slots * w.groups_together) * w.groups_together,
              groups = min(w.groups_together, w.sizes.groups - first_group),
              at = position - first_group * w.slots;
    tile.group = first_group + at % groups;
    const int slot = w.slots - 1 - at / groups;
    int64_t index = 0;
    const int d = OwnerOfSlot(w.sizes.cu_queries, w.sizes.documents, int64_t{1}, w.tile_tokens,
                              int64_t{slot}, &index);
    tile.document = d;
    tile.first_token = w.sizes.cu_queries[d] + static_cast<int>(index) * w.tile_tokens;
    tile.tokens = min(w.tile_tokens, w.sizes.cu_queries[d + 1] - tile.first_token);
    if (tile.tokens <= 0) continue;
    tile.slot = tile.group * w.slots + slot;
    keys.Plan(w.sizes, tile);
    return true;
  }
}

}  // namespace lacuna::cuda::hopper::attention
