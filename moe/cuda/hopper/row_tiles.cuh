// Which rows and features a cluster works on: at most kN rows of an expert, the same in both blocks,
// and kM features a block. The tensor cores take any multiple of kRowStep rows, so the last tile of
// an expert multiplies few rows in vain.
#pragma once

#include "moe/cuda/hopper/tile.cuh"

namespace lacuna::cuda::hopper {

using RowsTile = Tile<128, 256, 4>;

inline constexpr int kM = RowsTile::kM, kN = RowsTile::kN;
// Rows that are multiplied come in these steps, above kWideRows in the wider.
inline constexpr int kRowStep = 16, kWideRowStep = 32, kWideRows = 128;

struct RowTile {
  int expert;
  int feature_tile;  // of this block
  int begin;         // of the rows
  int rows;          // there are
  int columns;       // multiplied
};

__device__ inline int RowTilesOf(const ExpertRows& rows) {
  return (rows.count() + kN - 1) / kN;
}

// Walks a cluster's tiles; whole warps. Feature tiles of the same rows follow one another: what runs
// together shares a few experts' matrices and rows in L2.
class RowTiles {
 public:
  // In shared memory: ranges of LoadOffsets, starts of CountRowTiles. feature_pairs: of kM.
  __device__ RowTiles(const ExpertRows* ranges, const int* starts, int experts, int feature_pairs)
      : ranges_(ranges),
        starts_(starts),
        feature_pairs_(feature_pairs),
        row_tiles_(Uniform(starts[experts])) {
    Advance(blockIdx.x / kCluster);
  }

  __device__ bool Next(RowTile& tile) {
    if (row_tile_ >= row_tiles_) return false;
    while (row_tile_ >= Uniform(starts_[expert_ + 1])) ++expert_;
    const int begin = Uniform(ranges_[expert_].begin + (row_tile_ - starts_[expert_]) * kN),
              rows = min(Uniform(ranges_[expert_].end) - begin, kN),
              step = rows > kWideRows ? kWideRowStep : kRowStep;
    tile = {expert_, feature_pair_ * kCluster + static_cast<int>(ClusterRank()), begin, rows,
            (rows + step - 1) / step * step};
    Advance(gridDim.x / kCluster);
    return true;
  }

 private:
  __device__ void Advance(unsigned tiles) {
    const unsigned pair = feature_pair_ + tiles;
    row_tile_ += static_cast<int>(pair / feature_pairs_);
    feature_pair_ = static_cast<int>(pair % feature_pairs_);
  }

  const ExpertRows* ranges_;
  const int* starts_;
  unsigned feature_pairs_;
  int row_tiles_;
  int row_tile_ = 0, feature_pair_ = 0, expert_ = 0;
};

// Fills starts [experts + 1], row tiles of the experts before; the first warp. The caller synchronizes
// before and after.
__device__ inline void CountRowTiles(const ExpertRows* ranges, int experts, int* starts) {
  if (threadIdx.x >= kWarp) return;
  const int lane = threadIdx.x;
  int total = 0;
  for (int first = 0; first < experts; first += kWarp) {
    const int e = first + lane, mine = e < experts ? RowTilesOf(ranges[e]) : 0;
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

}  // namespace lacuna::cuda::hopper
