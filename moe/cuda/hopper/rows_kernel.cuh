// Grouped products of rows: y[r] = x[r] w[e]^T or x[r] w[e], and what an epilogue makes of them.
//
// Computed transposed, A = features of w[e], B = rows: the tensor cores take tiles of any multiple of
// 8 columns but only of 64 rows, and it is the experts' rows whose number is ragged. The blocks of a
// cluster share B.
#pragma once

#include "moe/cuda/hopper/store_rows.cuh"

namespace lacuna::cuda::hopper {

template <class Epilogue>
struct RowsParams {
  CUtensorMap w, x;
  ExpertOffsets offsets;
  int64_t rows;
  int experts, slices, features, feature_pairs;  // pairs of tiles of kM
  int pace;                                      // slices a step of the epilogue
  uint32_t delays;                               // of RandomDelay
  typename Epilogue::Params epilogue;
};

template <class Epilogue>
int64_t RowsKernelShared(int64_t experts) {
  return Ring<RowsTile>::kBytes + kConsumers * Epilogue::Buffers::kBytes +
         Ring<RowsTile>::kBarrierBytes + (3 * experts + 1) * 4 + 1024;
}

// Of rows of B; the blocks of a cluster bring them in turns.
inline constexpr int kRowBox = 32;

// A consumer: what it multiplies now, and what it still has to store.
template <class Epilogue, bool kTransposeW>
struct RowsConsumer {
  const RowsParams<Epilogue>& p;
  Ring<RowsTile> ring;
  uint32_t warpgroup;  // uniform
  typename Epilogue::Buffers staging;
  Ring<RowsTile>::Place place = {};
  HeldRows<Epilogue> held = {};

  __device__ __forceinline__ void StoreRest() {
    while (held.next < held.steps) StoreNext<Epilogue>(p.epilogue, held, staging, p.features);
  }
  // Inlined, as sums under way cannot cross a call.
  template <int kColumns>
  __device__ __forceinline__ void Multiply(const RowTile& tile) {
    Sums<RowsTile, kColumns> sum = {};
    Multiplier<RowsTile, kColumns, kTransposeW, true> multiplier = {sum, ring, place, warpgroup,
                                                                    p.delays};
    // The warpgroups take turns: one multiplies undisturbed while the other stores.
    int until_step = 1 + static_cast<int>(warpgroup) * (p.pace / 2);
    for (int slice = 0; slice < p.slices; ++slice) {
      multiplier.Slice();
      if (--until_step > 0) continue;
      until_step = p.pace;
      StoreNext<Epilogue>(p.epilogue, held, staging, p.features);
    }
    multiplier.Finish();
    StoreRest();  // where there are fewer slices than steps
    held.template Take<kColumns>(sum, tile);
  }
  __device__ __forceinline__ void Run(const RowTile& tile) {
    switch (tile.columns) {
      case 16:
        return Multiply<16>(tile);
      case 32:
        return Multiply<32>(tile);
      case 48:
        return Multiply<48>(tile);
      case 64:
        return Multiply<64>(tile);
      case 80:
        return Multiply<80>(tile);
      case 96:
        return Multiply<96>(tile);
      case 112:
        return Multiply<112>(tile);
      case 128:
        return Multiply<128>(tile);
      case 160:
        return Multiply<160>(tile);
      case 192:
        return Multiply<192>(tile);
      case 224:
        return Multiply<224>(tile);
      default:
        return Multiply<256>(tile);
    }
  }
};

// kTransposeW: depth contiguous in w.
template <class Epilogue, bool kTransposeW>
__global__ void LACUNA_CLUSTER(kCluster) __launch_bounds__(kThreads, 1)
    RowsKernel(const __grid_constant__ RowsParams<Epilogue> p) {
#if LACUNA_HOPPER_CODE
  char* const dynamic = DynamicShared();
  const uint32_t start = (SharedAddress(dynamic) + 1023) / 1024 * 1024,
                 staging = start + Ring<RowsTile>::kBytes,
                 barriers = staging + kConsumers * Epilogue::Buffers::kBytes;
  const Ring<RowsTile> ring = {start, barriers};
  ExpertRows* const ranges = reinterpret_cast<ExpertRows*>(
      dynamic + (barriers + Ring<RowsTile>::kBarrierBytes - SharedAddress(dynamic)));
  int* const starts = reinterpret_cast<int*>(ranges + p.experts);
  const uint32_t warp = Uniform(threadIdx.x / kWarp), warpgroup = warp / (kWarpgroup / kWarp),
                 rank = ClusterRank();
  if (threadIdx.x == 0) ring.Init(1);
  LoadOffsets(p.offsets, p.rows, p.experts, ranges);
  __syncthreads();
  CountRowTiles(ranges, p.experts, starts);
  __syncthreads();
  SyncCluster();

  RowTiles tiles(ranges, starts, p.experts, p.feature_pairs);
  RowTile tile;
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    Ring<RowsTile>::Place place;
    if (warp == kConsumerWarps) {
      while (tiles.Next(tile)) {
        const int boxes = (tile.columns + kRowBox - 1) / kRowBox;
        for (int slice = 0; slice < p.slices; ++slice) {
          const uint32_t full = ring.Full(place.stage), a = ring.A(place.stage),
                         b = ring.B(place.stage);
          const int depth = slice * kDepth;
          RandomDelay(p.delays, slice);
          WaitBarrier(ring.Empty(place.stage), place.round ^ 1);
          __syncwarp();  // or a lane still waits when what follows has turned the barrier again
          if (threadIdx.x % kWarp == 0) {
            ArriveExpecting(full, RowsTile::kABytes + boxes * kRowBox * kDepth * 2);
            if constexpr (Epilogue::kInterleaved) {
              static_assert(kTransposeW);
              CopyTile(a, p.w, full, depth, 0, 0, tile.feature_tile * (kM / 16), tile.expert);
            } else {
              const int feature = tile.feature_tile * kM;
              if constexpr (kTransposeW) {
                CopyTile(a, p.w, full, depth, feature, tile.expert);
              } else {
                CopyTile(a, p.w, full, feature, depth, tile.expert);
                CopyTile(a + kBoxBytes, p.w, full, feature + 64, depth, tile.expert);
              }
            }
            for (int i = static_cast<int>(rank); i < boxes; i += kCluster) {
              CopyTileToCluster(b + i * kRowBox * kDepth * 2, p.x, full, kBothBlocks, depth,
                                tile.begin + i * kRowBox);
            }
          }
          place.Next();
        }
      }
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    RowsConsumer<Epilogue, kTransposeW> consumer = {
        p, ring, warpgroup, {staging + warpgroup * Epilogue::Buffers::kBytes}};
    while (tiles.Next(tile)) consumer.Run(tile);
    consumer.StoreRest();
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here or arrive at a barrier
#endif
}

}  // namespace lacuna::cuda::hopper
