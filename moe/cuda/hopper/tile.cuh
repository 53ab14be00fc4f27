// Tiles of grouped products on Hopper: what the kernels in this folder share.
//
//   block      two warpgroups multiply, one brings operands. A [kM x 64] and B [kN x 64] a slice,
//              kStages slices under way. Warpgroup w holds rows w kM / 2 .. of the product of A and
//              B, in tiles of 64 rows.
//   cluster    two blocks that share one operand and differ in the other. Each brings half of the
//              shared one, for both: its bytes cross from L2 once for two blocks.
//   ring       stages of the operands in shared memory. `full`: a stage's operands are there.
//              `empty`: the warps of both blocks are done with it, since both write it.
//   epilogue   what a tile's sums become is held in registers and stored bit by bit between the
//              next tile's slices: the tensor cores work meanwhile.
//   schedule   as many clusters as fit on the card; cluster c takes tiles c, c + clusters, ...
#pragma once

#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/ring_place.cuh"
#include "core/cuda/wgmma.cuh"
#include "moe/cuda/expert_offsets.cuh"

namespace lacuna::cuda::hopper {

inline constexpr int kDepth = 64, kSteps = kDepth / 16;
inline constexpr int kConsumers = 2, kConsumerWarps = kConsumers * kWarpgroup / kWarp,
                     kThreads = (kConsumers + 1) * kWarpgroup;
// Of a tile of 64 rows or columns, also of a box that stands across.
inline constexpr int kBoxBytes = 64 * kDepth * 2;
inline constexpr int kCluster = 2;
inline constexpr uint16_t kBothBlocks = 3;
inline constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

template <int kRows, int kColumns, int kStageCount>
struct Tile {
  static constexpr int kM = kRows, kN = kColumns, kStages = kStageCount;
  static constexpr int kTiles = kM / kConsumers / 64;  // of 64 rows, of a warpgroup
  static constexpr int kABytes = kM * kDepth * 2, kBBytes = kN * kDepth * 2;
};

// The ring of stages in shared memory; `base` is a multiple of 1024.
template <class Tile>
struct Ring {
  static constexpr int kStages = Tile::kStages, kStageBytes = Tile::kABytes + Tile::kBBytes;
  static constexpr int kBytes = kStages * kStageBytes, kBarrierBytes = kStages * 16;
  static_assert(kStageBytes % 1024 == 0);

  using Place = RingPlace<kStages>;

  uint32_t base, barriers;

  __device__ uint32_t A(uint32_t stage) const { return base + stage * kStageBytes; }
  __device__ uint32_t B(uint32_t stage) const { return A(stage) + Tile::kABytes; }
  __device__ uint32_t Full(uint32_t stage) const { return barriers + stage * 16; }
  __device__ uint32_t Empty(uint32_t stage) const { return Full(stage) + 8; }

  // By one thread, before the blocks of the cluster meet. producers: arrivals that fill a stage.
  __device__ void Init(int producers) const {
    for (uint32_t s = 0; s < kStages; ++s) {
      InitBarrier(Full(s), producers);
      InitBarrier(Empty(s), kCluster * kConsumerWarps);
    }
    FenceBarrierInit();
  }
  // By all lanes of a consumer's warp.
  __device__ void Release(uint32_t stage) const {
    const uint32_t lane = threadIdx.x % kWarp;
    if (lane < kCluster) ArriveAt(Empty(stage), lane);
  }
};

// Sums of a thread of a warpgroup, kColumns of the tile's columns.
template <class Tile, int kColumns = Tile::kN>
using Sums = float[Tile::kTiles][kColumns / 2];

// The products of 16 of the depth, step `step` of the slice in `stage`, added to the sums.
template <class Tile, int kColumns, bool kADepthContiguous, bool kBDepthContiguous>
__device__ __forceinline__ void MultiplyStep(Sums<Tile, kColumns>& sum, const Ring<Tile>& ring,
                                             uint32_t stage, int step, uint32_t warpgroup) {
  const uint64_t a = Describe<kADepthContiguous>(
                     ring.A(stage) + warpgroup * Tile::kTiles * kBoxBytes, 0),
                 b = Describe<kBDepthContiguous>(ring.B(stage), kBoxBytes);
#pragma unroll
  for (int tile = 0; tile < Tile::kTiles; ++tile) {
    WarpgroupProduct<kColumns>::template Add<kADepthContiguous, kBDepthContiguous>(
        sum[tile], a + step * kDepthStep<kADepthContiguous> + tile * (kBoxBytes >> 4),
        b + step * kDepthStep<kBDepthContiguous>);
  }
}

// A tile's products, slice after slice from `place` on. One slice's are under way while the next is
// waited for; Finish waits for the last.
template <class Tile, int kColumns, bool kADepthContiguous, bool kBDepthContiguous>
struct Multiplier {
  Sums<Tile, kColumns>& sum;
  const Ring<Tile>& ring;
  typename Ring<Tile>::Place& place;
  uint32_t warpgroup;  // uniform
  uint32_t delays;     // of RandomDelay
  int before = -1;     // the stage whose products are under way

  // kCount steps of 16 in depth. prepare(stage): before the products, when the operands are there.
  template <int kCount, class Prepare>
  __device__ __forceinline__ void Slice(Prepare&& prepare) {
    RandomDelay(delays, place.stage + place.round);
    WaitBarrier(ring.Full(place.stage), place.round);
    prepare(place.stage);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kCount; ++step) {
      MultiplyStep<Tile, kColumns, kADepthContiguous, kBDepthContiguous>(sum, ring, place.stage,
                                                                         step, warpgroup);
    }
    CommitProducts();
    if (before >= 0) {
      WaitProducts<1>();
      ring.Release(before);
    }
    before = static_cast<int>(place.stage);
    place.Next();
  }
  __device__ __forceinline__ void Slice() {
    Slice<kSteps>([](uint32_t) {});
  }
  __device__ __forceinline__ void Finish() {
    WaitProducts<0>();
    if (before >= 0) ring.Release(before);
    before = -1;
#pragma unroll
    for (int tile = 0; tile < Tile::kTiles; ++tile) PinSums(sum[tile]);
  }
};

// The rows of an expert, within those that there are.
struct ExpertRows {
  int begin, end;
  __device__ int count() const { return max(0, end - begin); }
};
// Fills ranges [experts], in shared memory. Offsets that do not cut the rows give a wrong product, never
// an address outside: an expert whose rows end before they begin has none. All threads of the block;
// the caller synchronizes.
__device__ inline void LoadOffsets(const ExpertOffsets& offsets, int64_t rows, int experts,
                                   ExpertRows* ranges) {
  const auto within = [&](int64_t row) {
    return static_cast<int>(max(int64_t{0}, min(row, rows)));
  };
  for (int e = threadIdx.x; e < experts; e += kThreads)
    ranges[e] = {within(offsets.Begin(e)), within(offsets.End(e))};
}

}  // namespace lacuna::cuda::hopper
