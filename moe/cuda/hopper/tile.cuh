// Tiles of grouped products on Hopper: what the kernels in this folder share.
//
//   block      two warpgroups multiply, one brings operands. A [256 x 64] and B [128 x 64] a slice,
//              kStages slices under way. Warpgroup w holds rows 128 w .. 128 w + 127 of the
//              product of A and B, as two tiles of 64 rows: 128 sums a thread.
//   cluster    two blocks with the same A and different B. Each brings half of A, for both: an A
//              byte crosses from L2 once for two blocks. A slice of 48 KB costs L2 32 KB.
//   ring       stages of the operands in shared memory. `full`: a stage's operands are there. `empty`:
//              the warps of both blocks are done with it, since both write its A.
//   borrowing  behind a tile's slices the epilogue gets a few stages of the ring, empty, for what it
//              stores through the copy engine. They are given back during the next tile's first
//              slices, when the engine has read them: stores and products overlap.
//   schedule   as many clusters as fit on the card; cluster c takes tiles c, c + clusters, ...
#pragma once

#include "core/cuda/hopper.cuh"
#include "core/cuda/wgmma.cuh"
#include "moe/cuda/grouped_tile.cuh"

namespace lacuna::cuda::hopper {

inline constexpr int kM = 256, kN = 128, kDepth = 64, kStages = 4, kSteps = kDepth / 16;
inline constexpr int kConsumers = 2, kConsumerWarps = kConsumers * kWarpgroup / kWarp,
                     kThreads = (kConsumers + 1) * kWarpgroup;
inline constexpr int kHalfABytes = kM / 2 * kDepth * 2, kABytes = 2 * kHalfABytes,
                     kBBytes = kN * kDepth * 2, kStageBytes = kABytes + kBBytes;
// Of a tile of 64 rows or columns, also of a box that stands across.
inline constexpr int kBoxBytes = 64 * kDepth * 2;
inline constexpr int kCluster = 2;
inline constexpr uint16_t kBothBlocks = 3;
inline constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

// A stage and how often the ring went round.
struct RingPlace {
  uint32_t stage = 0, round = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      round ^= 1;
    }
  }
};

// The ring of stages in shared memory; `base` is a multiple of 1024.
struct Ring {
  static constexpr int kBarrierBytes = kStages * 16;
  static constexpr int kBytes = kStages * kStageBytes;

  uint32_t base, barriers;

  __device__ uint32_t A(uint32_t stage) const { return base + stage * kStageBytes; }
  __device__ uint32_t B(uint32_t stage) const { return A(stage) + kABytes; }
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
  // By the producer: `count` stages for the consumers to use.
  __device__ void Lend(RingPlace& place, int count) const {
    for (int i = 0; i < count; ++i) {
      WaitBarrier(Empty(place.stage), place.round ^ 1);
      Arrive(Full(place.stage));
      place.Next();
    }
  }
  // By all lanes of a consumer's warp.
  __device__ void Release(uint32_t stage) const {
    const uint32_t lane = threadIdx.x % kWarp;
    if (lane < kCluster) ArriveAt(Empty(stage), lane);
  }
};

// Sums of a thread of a warpgroup: two tiles of 64 x kColumns.
template <int kColumns>
using Sums = float[2][kColumns / 2];

// One slice's products, added to the sums.
template <int kColumns, bool kADepthContiguous, bool kBDepthContiguous>
__device__ void MultiplySlice(Sums<kColumns>& sum, const Ring& ring, uint32_t stage) {
  const uint32_t warpgroup = threadIdx.x / kWarpgroup;
  const uint64_t a = Describe<kADepthContiguous>(ring.A(stage) + warpgroup * kHalfABytes, 0),
                 b = Describe<kBDepthContiguous>(ring.B(stage), kBoxBytes);
  BeginProducts();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
      WarpgroupProduct<kColumns>::template Add<kADepthContiguous, kBDepthContiguous>(
          sum[tile], a + step * kDepthStep<kADepthContiguous> + tile * (kBoxBytes >> 4),
          b + step * kDepthStep<kBDepthContiguous>);
    }
  }
  CommitProducts();
}

// Stages that a tile's epilogue borrowed: `count` from `first` on, a committed group of stores each.
struct Borrowed {
  uint32_t first = 0;
  int count = 0, given_back = 0;

  // The next one, when its stores are read; all lanes.
  __device__ void GiveBackOne(const Ring& ring) {
    switch (count - given_back) {
      case 3:
        WaitStoresRead<2>();
        break;
      case 2:
        WaitStoresRead<1>();
        break;
      default:
        WaitStoresRead<0>();
    }
    __syncwarp();
    ring.Release((first + given_back++) % kStages);
  }
  __device__ void GiveBack(const Ring& ring) {
    while (given_back < count) GiveBackOne(ring);
  }
};
// One stage has to be left for the next tile's first slice, which is waited for before any is given
// back.
inline constexpr int kMaxBorrowed = kStages - 1;

// The products of `slices` slices from `place` on; one slice's products are under way while the
// next is waited for.
template <int kColumns, bool kADepthContiguous, bool kBDepthContiguous>
__device__ void MultiplySlices(Sums<kColumns>& sum, const Ring& ring, RingPlace& place,
                               Borrowed& borrowed, int slices) {
  uint32_t before = 0;
  for (int slice = 0; slice < slices; ++slice) {
    WaitBarrier(ring.Full(place.stage), place.round);
    MultiplySlice<kColumns, kADepthContiguous, kBDepthContiguous>(sum, ring, place.stage);
    if (borrowed.given_back < borrowed.count) borrowed.GiveBackOne(ring);
    if (slice > 0) {
      WaitProducts<1>();
      ring.Release(before);
    }
    before = place.stage;
    place.Next();
  }
  WaitProducts<0>();
  if (slices > 0) ring.Release(before);
  PinSums(sum[0]);
  PinSums(sum[1]);
  borrowed.GiveBack(ring);
}

}  // namespace lacuna::cuda::hopper
