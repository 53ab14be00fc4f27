// Which rows a cluster works on: the rows of an expert in pairs of tiles, at most kN rows a block.
// The last pair of an expert is split evenly, in tiles of a multiple of 16 rows, so that at most 31
// rows of an expert are multiplied in vain.
#pragma once

#include "moe/cuda/hopper/tile.cuh"

namespace lacuna::cuda::hopper {

inline constexpr int kRowStep = 16;

struct RowTile {
  int expert, feature_tile;
  int64_t begin;  // of this block's rows
  int rows;       // there are
  int columns;    // multiplied: a multiple of kRowStep, the same in both blocks
};

// Walks a cluster's tiles. Feature tiles of the same rows follow one another: what runs together
// shares a few experts' matrices and rows in L2.
class RowTiles {
 public:
  // starts: [experts + 1] in shared memory, pairs of the experts before.
  __device__ RowTiles(const int64_t* offsets, int64_t rows, int experts, const int* starts,
                      int feature_tiles)
      : offsets_(offsets),
        rows_(rows),
        starts_(starts),
        feature_tiles_(feature_tiles),
        index_(static_cast<int64_t>(blockIdx.x / kCluster)),
        end_(int64_t{starts[experts]} * feature_tiles) {}

  __device__ bool Next(RowTile& tile) {
    if (index_ >= end_) return false;
    const int pair = static_cast<int>(index_ / feature_tiles_);
    while (pair >= starts_[expert_ + 1]) ++expert_;
    const RowRange range = RowsOf(offsets_, expert_, rows_);
    const int skip = (pair - starts_[expert_]) * kCluster * kN,
              left = min(range.rows - skip, kCluster * kN),
              half = (left + 2 * kRowStep - 1) / (2 * kRowStep) * kRowStep,
              mine = static_cast<int>(ClusterRank()) * half;
    tile = {expert_, static_cast<int>(index_ % feature_tiles_), range.begin + skip + mine,
            max(0, min(half, left - mine)), half};
    index_ += gridDim.x / kCluster;
    return true;
  }

 private:
  const int64_t* offsets_;
  int64_t rows_;
  const int* starts_;
  int feature_tiles_;
  int64_t index_, end_;
  int expert_ = 0;
};

// Fills starts; all threads of the block. The caller synchronizes.
__device__ inline void CountPairs(const int64_t* offsets, int64_t rows, int experts, int* starts) {
  const auto pairs_of = [&](int e) {
    return (RowsOf(offsets, e, rows).rows + kCluster * kN - 1) / (kCluster * kN);
  };
  if (threadIdx.x >= kWarp) return;
  const int lane = threadIdx.x;
  int total = 0;
  for (int first = 0; first < experts; first += kWarp) {
    const int e = first + lane, mine = e < experts ? pairs_of(e) : 0;
    int sum = mine;
#pragma unroll
    for (int offset = 1; offset < kWarp; offset *= 2) {
      const int other = __shfl_up_sync(0xFFFFFFFFu, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (e < experts) starts[e] = total + sum - mine;
    total += __shfl_sync(0xFFFFFFFFu, sum, kWarp - 1);
  }
  if (lane == 0) starts[experts] = total;
}

// f(std::integral_constant<int, columns>) for a tile's number of columns.
template <class F>
__device__ void WithColumns(int columns, F&& f) {
  switch (columns / kRowStep) {
    case 1:
      return f(std::integral_constant<int, 16>{});
    case 2:
      return f(std::integral_constant<int, 32>{});
    case 3:
      return f(std::integral_constant<int, 48>{});
    case 4:
      return f(std::integral_constant<int, 64>{});
    case 5:
      return f(std::integral_constant<int, 80>{});
    case 6:
      return f(std::integral_constant<int, 96>{});
    case 7:
      return f(std::integral_constant<int, 112>{});
    default:
      return f(std::integral_constant<int, 128>{});
  }
}

}  // namespace lacuna::cuda::hopper
