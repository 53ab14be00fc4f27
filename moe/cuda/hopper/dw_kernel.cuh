// Gradients of experts' matrices: dw[e] = or += a_e^T b_e over the rows of expert e, both operands
// standing across, the depth ragged.
//
// The last slice of an expert also holds rows of the next; they are zeroed in shared memory before
// the tensor cores see them, in both operands, so that a NaN of one expert stays there. Every sum
// stays in one block and is added to memory once: the same bits every time.
#pragma once

#include "core/cuda/vector.cuh"
#include "moe/cuda/hopper/tile.cuh"

namespace lacuna::cuda::hopper {

struct DwParams {
  CUtensorMap a, b;
  const int64_t* offsets;
  float* dw;  // [E, out, in], rows a multiple of 16 bytes
  int64_t rows;
  int experts, out, in, out_tiles, in_pairs;
};

inline constexpr int kDwShared = Ring::kBytes + Ring::kBarrierBytes + 1024;

// Zeroes rows valid .. roundup(valid, 16) - 1 of a stage's operands; all consumers.
__device__ inline void ZeroRows(const Ring& ring, uint32_t stage, int valid) {
  constexpr int kRowPieces = (kM + kN) / 8, kThreadsHere = kConsumers * kWarpgroup;
  const int rows = (valid + 15) / 16 * 16 - valid;
  for (int i = threadIdx.x; i < rows * kRowPieces; i += kThreadsHere) {
    const int row = valid + i / kRowPieces, piece = i % kRowPieces;
    // Boxes of A and B follow one another; the swizzle moves pieces within a row only.
    StoreShared16(ring.A(stage) + piece / 8 * kBoxBytes + row * 128 + piece % 8 * 16,
                  make_uint4(0, 0, 0, 0));
  }
  FenceAsyncProxy();
  SyncNamed(1, kThreadsHere);
}

// A warp's 32 rows of dw stand in the borrowed stages, kRowsAStage in each, and leave row by row.
// The pitch keeps eight rows of a fragment in different banks.
inline constexpr int kDwPitch = kN * 4 + 32, kDwWarpBytes = kStageBytes / kConsumerWarps,
                     kDwRowsAStage = kDwWarpBytes / kDwPitch, kDwBorrowed = 3;
static_assert(kDwBorrowed * kDwRowsAStage >= 32 && kDwBorrowed <= kMaxBorrowed);

template <bool kAccumulate>
__device__ void StoreSums(const DwParams& p, const Sums<kN>& sum, const Ring& ring,
                          RingPlace& place, int expert, int row0, int column0) {
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  float* const dw = p.dw + static_cast<int64_t>(expert) * p.out * p.in + column0;
  const int bytes = min(kN, p.in - column0) * 4;
#pragma unroll
  for (int b = 0; b < kDwBorrowed; ++b, place.Next()) {
    const uint32_t shared = ring.A(place.stage) + warp * kDwWarpBytes;
    WaitBarrier(ring.Full(place.stage), place.round);
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // 8 of the warp's rows each
      if (i * 8 + 8 <= b * kDwRowsAStage || i * 8 >= (b + 1) * kDwRowsAStage) continue;
      const int here = i * 8 + lane / 4 - b * kDwRowsAStage;
      if (here < 0 || here >= kDwRowsAStage) continue;
      const uint32_t to = shared + here * kDwPitch + lane % 4 * 8;
#pragma unroll
      for (int j = 0; j < kN / 8; ++j) {
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + j * 32),
                     "f"(sum[i / 2][4 * j + i % 2 * 2]), "f"(sum[i / 2][4 * j + i % 2 * 2 + 1])
                     : "memory");
      }
    }
    FenceAsyncProxy();
    __syncwarp();
    const int index = b * kDwRowsAStage + lane,  // of the warp's rows
        row = row0 + warp / 4 * (kM / 2) + index / 16 * 64 + warp % 4 * 16 + index % 16;
    if (lane < kDwRowsAStage && index < 32 && row < p.out && bytes > 0) {
      float* const to = dw + static_cast<int64_t>(row) * p.in;
      if constexpr (kAccumulate) {
        AddFloats(to, shared + lane * kDwPitch, bytes);
      } else {
        StoreBytes(to, shared + lane * kDwPitch, bytes);
      }
    }
    CommitStores();
  }
}

template <bool kAccumulate>
__global__ void __cluster_dims__(kCluster) __launch_bounds__(kThreads, 1)
    DwKernel(const __grid_constant__ DwParams p) {
#if LACUNA_HOPPER_CODE
  extern __shared__ char dynamic[];
  const uint32_t start = (SharedAddress(dynamic) + 1023) / 1024 * 1024;
  const Ring ring = {start, start + Ring::kBytes};
  const uint32_t warpgroup = threadIdx.x / kWarpgroup, rank = ClusterRank();
  if (threadIdx.x == 0) ring.Init(1);
  __syncthreads();
  SyncCluster();

  const int per_expert = p.out_tiles * p.in_pairs, clusters = gridDim.x / kCluster;
  const int64_t end = int64_t{p.experts} * per_expert;
  RingPlace place;
  // f(expert, its rows, first row and column of dw) for this block's tiles.
  const auto for_tiles = [&](auto&& f) {
    for (int64_t index = blockIdx.x / kCluster; index < end; index += clusters) {
      const int expert = static_cast<int>(index / per_expert),
                tile = static_cast<int>(index % per_expert);
      f(expert, RowsOf(p.offsets, expert, p.rows), tile / p.in_pairs * kM,
        (tile % p.in_pairs * kCluster + static_cast<int>(rank)) * kN);
    }
  };
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroup) {
      for_tiles([&](int, const RowRange& range, int row, int column) {
        if (kAccumulate && range.rows == 0) return;
        for (int depth = 0; depth < range.rows; depth += kDepth) {
          const uint32_t full = ring.Full(place.stage),
                         a = ring.A(place.stage) + rank * kHalfABytes, b = ring.B(place.stage);
          const int r = static_cast<int>(range.begin) + depth;
          WaitBarrier(ring.Empty(place.stage), place.round ^ 1);
          ArriveExpecting(full, kStageBytes);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            CopyTileToCluster(a + i * kBoxBytes, p.a, full, kBothBlocks,
                              row + static_cast<int>(rank) * (kM / 2) + i * 64, r);
            CopyTile(b + i * kBoxBytes, p.b, full, column + i * 64, r);
          }
          place.Next();
        }
        ring.Lend(place, kDwBorrowed);
      });
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    Borrowed borrowed;
    for_tiles([&](int expert, const RowRange& range, int row, int column) {
      if (kAccumulate && range.rows == 0) return;
      Sums<kN> sum = {};
      const int full_slices = range.rows / kDepth, valid = range.rows % kDepth;
      MultiplySlices<kN, false, false>(sum, ring, place, borrowed, full_slices);
      if (valid > 0) {
        WaitBarrier(ring.Full(place.stage), place.round);
        if (valid % 16 != 0) ZeroRows(ring, place.stage, valid);
        const uint64_t a = DescribeAcross(ring.A(place.stage) + warpgroup * kHalfABytes, 0),
                       b = DescribeAcross(ring.B(place.stage), kBoxBytes);
        for (int step = 0; step * 16 < valid; ++step) {
          BeginProducts();
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            WarpgroupProduct<kN>::Add<false, false>(
                sum[i], a + step * kDepthStep<false> + i * (kBoxBytes >> 4),
                b + step * kDepthStep<false>);
          }
          CommitProducts();
          WaitProducts<0>();
        }
        PinSums(sum[0]);
        PinSums(sum[1]);
        ring.Release(place.stage);
        place.Next();
      }
      borrowed = {place.stage, kDwBorrowed};
      StoreSums<kAccumulate>(p, sum, ring, place, expert, row, column);
    });
    borrowed.GiveBack(ring);
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here or arrive at a barrier
#endif
}

}  // namespace lacuna::cuda::hopper
