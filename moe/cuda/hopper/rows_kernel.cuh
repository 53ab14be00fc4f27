// Grouped products of rows: y[r] = x[r] w[e]^T or x[r] w[e], and what an epilogue makes of them.
//
// Computed transposed, A = features of w[e], B = rows: the tensor cores take tiles of any multiple of
// 8 columns but only of 64 rows, and it is the experts' rows whose number is ragged.
#pragma once

#include "moe/cuda/hopper/store_rows.cuh"

namespace lacuna::cuda::hopper {

template <class Epilogue>
struct RowsParams {
  CUtensorMap w, x;
  const int64_t* offsets;
  int64_t rows;
  int experts, slices, features, feature_tiles;
  typename Epilogue::Params epilogue;
};

inline int64_t RowsKernelShared(int64_t experts) {
  return Ring::kBytes + Ring::kBarrierBytes + (experts + 1) * 4 + 1024;
}

// Boxes of rows of B.
inline constexpr int kRowBox = 32;

// kTransposeW: depth contiguous in w.
template <class Epilogue, bool kTransposeW>
__global__ void __cluster_dims__(kCluster) __launch_bounds__(kThreads, 1)
    RowsKernel(const __grid_constant__ RowsParams<Epilogue> p) {
#if LACUNA_HOPPER_CODE
  extern __shared__ char dynamic[];
  const uint32_t start = (SharedAddress(dynamic) + 1023) / 1024 * 1024,
                 barriers = start + Ring::kBytes;
  const Ring ring = {start, barriers};
  int* const starts =
      reinterpret_cast<int*>(dynamic + (barriers + Ring::kBarrierBytes - SharedAddress(dynamic)));
  const uint32_t warpgroup = threadIdx.x / kWarpgroup, rank = ClusterRank();
  if (threadIdx.x == 0) ring.Init(1);
  CountPairs(p.offsets, p.rows, p.experts, starts);
  __syncthreads();
  SyncCluster();

  RowTiles tiles(p.offsets, p.rows, p.experts, starts, p.feature_tiles);
  RowTile tile;
  RingPlace place;
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroup) {
      while (tiles.Next(tile)) {
        const int boxes = (tile.columns + kRowBox - 1) / kRowBox;
        for (int slice = 0; slice < p.slices; ++slice) {
          const uint32_t full = ring.Full(place.stage),
                         a = ring.A(place.stage) + rank * kHalfABytes, b = ring.B(place.stage);
          const int depth = slice * kDepth;
          WaitBarrier(ring.Empty(place.stage), place.round ^ 1);
          ArriveExpecting(full, kABytes + boxes * kRowBox * kDepth * 2);
          if constexpr (Epilogue::kInterleaved) {
            static_assert(kTransposeW);
            CopyTileToCluster(a, p.w, full, kBothBlocks, depth, 0, 0,
                              tile.feature_tile * (kM / 16) + static_cast<int>(rank) * (kM / 32),
                              tile.expert);
          } else {
            const int feature = tile.feature_tile * kM + static_cast<int>(rank) * (kM / 2);
            if constexpr (kTransposeW) {
              CopyTileToCluster(a, p.w, full, kBothBlocks, depth, feature, tile.expert);
            } else {
              CopyTileToCluster(a, p.w, full, kBothBlocks, feature, depth, tile.expert);
              CopyTileToCluster(a + kBoxBytes, p.w, full, kBothBlocks, feature + 64, depth,
                                tile.expert);
            }
          }
          for (int i = 0; i < boxes; ++i)
            CopyTile(b + i * kRowBox * kDepth * 2, p.x, full, depth,
                     static_cast<int>(tile.begin) + i * kRowBox);
          place.Next();
        }
        ring.Lend(place, Epilogue::kBorrowed);
      }
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    Borrowed borrowed;
    while (tiles.Next(tile)) {
      WithColumns(tile.columns, [&](auto columns) {
        constexpr int kColumns = decltype(columns)::value;
        Sums<kColumns> sum = {};
        MultiplySlices<kColumns, kTransposeW, true>(sum, ring, place, borrowed, p.slices);
        borrowed = {place.stage, Epilogue::kBorrowed};
        Epilogue::template Run<kColumns>(p.epilogue, sum, ring, place, tile, p.features);
      });
    }
    borrowed.GiveBack(ring);
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here or arrive at a barrier
#endif
}

}  // namespace lacuna::cuda::hopper
