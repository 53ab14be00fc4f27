// What a block of a grouped product computes, whatever unit does the arithmetic:
//   out[i, j] (+)= sum_k a(i, k) b(k, j),   i < m, j < n, k < depth
// A operand stands in memory either with its depth contiguous (rows of the tile lie `stride` apart)
// or across (steps of the depth lie `stride` apart); that is a template argument of its readers.
//
// Sizes that depend on the routing stay on the device: a grid has room for the most tiles there can
// be, and each block finds the rows of its tile in the offsets.
#pragma once

#include <cstdint>

#include "core/cuda/reduce.cuh"
#include "moe/cuda/expert_offsets.cuh"

namespace lacuna::cuda {

template <class T>
struct Operand {
  const T* data;  // the tile's first row or column at depth 0
  int stride;
  int count;  // rows or columns of the tile that are there
};

template <class T, class Out>
struct TileProblem {
  Operand<T> a, b;
  int depth;
  Out* out;
  int out_stride;
  bool out_packable;  // rows of `out` can be accessed 16 bytes at a time
};

struct RowRange {
  int expert;
  int rows;
  int64_t begin;
};

// The rows of expert e within [0, total): offsets that do not cut the rows give a wrong product, never
// an address outside.
__device__ inline RowRange RowsOf(const ExpertOffsets& offsets, int e, int64_t total) {
  const int64_t begin = max(int64_t{0}, min(offsets.Begin(e), total)),
                end = max(begin, min(offsets.End(e), total));
  return {e, static_cast<int>(end - begin), begin};
}

// The rows of tile `index` where the tiles of kTile rows of all experts follow one another; no rows
// past the last tile. All kThreads threads of the block call it.
template <int kThreads, int kTile>
__device__ RowRange FindRows(const ExpertOffsets& offsets, int experts, int64_t total, int index) {
  __shared__ int sums[kThreads / kWarp];
  __shared__ RowRange found;
  const auto tiles_of = [&](int e) {
    return static_cast<int>((int64_t{RowsOf(offsets, e, total).rows} + kTile - 1) / kTile);
  };
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int each = (experts + kThreads - 1) / kThreads, first = threadIdx.x * each,
            last = min(first + each, experts);
  int mine = 0;
  for (int e = first; e < last; ++e) mine += tiles_of(e);
  int before = mine;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const int other = __shfl_up_sync(0xFFFFFFFFu, before, offset);
    if (lane >= offset) before += other;
  }
  if (lane == kWarp - 1) sums[warp] = before;
  if (threadIdx.x == 0) found = {0, 0, 0};
  __syncthreads();
  before -= mine;
  for (int w = 0; w < warp; ++w) before += sums[w];
  if (index >= before && index < before + mine) {
    for (int e = first; e < last; ++e) {
      const int tiles = tiles_of(e);
      if (index < before + tiles) {
        const RowRange all = RowsOf(offsets, e, total);
        const int skip = (index - before) * kTile;
        found = {e, min(kTile, all.rows - skip), all.begin + skip};
        break;
      }
      before += tiles;
    }
  }
  __syncthreads();
  return found;
}

}  // namespace lacuna::cuda
