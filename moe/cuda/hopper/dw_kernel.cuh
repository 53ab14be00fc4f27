// Gradients of experts' matrices: dw[e] = or += dy_e^T x_e over the rows of expert e, both operands
// standing across, the depth ragged.
//
//   tile       128 x 192 of dw or of its transpose, whichever cuts it with less waste: A is dy or x.
//              The blocks of a cluster share B.
//   depth      The last slice of an expert also holds rows of the next. They are zeroed in shared
//              memory before the tensor cores see them, in both operands, so that a NaN of one
//              expert stays there.
//   epilogue   96 sums a thread are held and go to memory between the next tile's slices. Every sum
//              stays in one block and is added once: the same bits every time.
#pragma once

#include "moe/cuda/hopper/store_sums.cuh"

namespace lacuna::cuda::hopper {

struct DwParams {
  CUtensorMap a, b;  // rows of dy and x, or of x and dy where `transposed`
  DwMatrices dw;
  ExpertOffsets offsets;
  int64_t rows;
  int experts, pairs, columns;  // pairs, columns: of clusters' tiles along m and n
  uint32_t delays;              // of RandomDelay
};

inline int64_t DwKernelShared(int64_t experts) {
  return Ring<DwTile>::kBytes + kSumStagingBytes + Ring<DwTile>::kBarrierBytes + experts * 8 + 1024;
}

// Zeroes rows valid .. roundup(valid, 16) - 1 of what a warpgroup reads of a stage. Both zero B, so
// that neither waits for the other: what one still reads there is zero already.
__device__ inline void ZeroRows(const Ring<DwTile>& ring, uint32_t stage, int valid,
                                uint32_t warpgroup) {
  constexpr int kBoxes = 1 + DwTile::kN / 64, kRowPieces = kBoxes * 8;
  const int rows = (valid + 15) / 16 * 16 - valid;
  for (int i = threadIdx.x % kWarpgroup; i < rows * kRowPieces; i += kWarpgroup) {
    const int row = valid + i / kRowPieces, box = i % kRowPieces / 8, piece = i % 8;
    const uint32_t start =
        box == 0 ? ring.A(stage) + warpgroup * kBoxBytes : ring.B(stage) + (box - 1) * kBoxBytes;
    // The swizzle moves pieces within a row only.
    StoreShared16(start + row * 128 + piece * 16, make_uint4(0, 0, 0, 0));
  }
  FenceAsyncProxy();
  SyncNamed(1 + static_cast<int>(warpgroup), kWarpgroup);
}

// An index below `size` that steps on, with what it carries over; without divisions, which take
// hundreds of cycles between two tiles. Whole warps.
struct Digit {
  int size, by, carry;  // a step adds `by` and carries `carry`, one more past `size`
  int value;

  __device__ Digit(int size, int first, int step)
      : size(size),
        by(Uniform(step % size)),
        carry(Uniform(step / size)),
        value(Uniform(first % size)) {}
  __device__ int Step() {
    const int over = value + by >= size;
    value += by - over * size;
    return carry + over;
  }
};

// Walks a cluster's tiles, expert by expert; whole warps.
class DwTiles {
 public:
  // ranges: of LoadOffsets. Experts without rows are left out where nothing is to be set.
  __device__ DwTiles(const DwParams& p, const ExpertRows* ranges, bool skip_empty)
      : ranges_(ranges),
        experts_(p.experts),
        skip_empty_(skip_empty),
        column_(p.columns, blockIdx.x / kCluster, gridDim.x / kCluster),
        pair_(p.pairs, Uniform(blockIdx.x / kCluster / p.columns), column_.carry),
        expert_(Uniform(blockIdx.x / kCluster / p.columns / p.pairs)) {}

  __device__ bool Next(DwPlace& place) {
    while (expert_ < experts_) {
      const int begin = Uniform(ranges_[expert_].begin), rows = Uniform(ranges_[expert_].count());
      place = {expert_, begin, rows,
               (pair_.value * kCluster + static_cast<int>(ClusterRank())) * DwTile::kM,
               column_.value * DwTile::kN};
      // Steps by column_.carry pairs, and by one more where the columns went round.
      const bool round = column_.Step() > column_.carry;
      expert_ += pair_.Step();
      if (round && ++pair_.value == pair_.size) {
        pair_.value = 0;
        ++expert_;
      }
      if (rows > 0 || !skip_empty_) return true;
    }
    return false;
  }

 private:
  const ExpertRows* ranges_;
  int experts_;
  bool skip_empty_;
  Digit column_, pair_;
  int expert_;
};

template <bool kAccumulate, bool kTransposed>
__global__ void LACUNA_CLUSTER(kCluster) __launch_bounds__(kThreads, 1)
    DwKernel(const __grid_constant__ DwParams p) {
#if LACUNA_HOPPER_CODE
  char* const dynamic = DynamicShared();
  const uint32_t start = (SharedAddress(dynamic) + 1023) / 1024 * 1024,
                 staging = start + Ring<DwTile>::kBytes, barriers = staging + kSumStagingBytes;
  const Ring<DwTile> ring = {start, barriers};
  ExpertRows* const ranges = reinterpret_cast<ExpertRows*>(
      dynamic + (barriers + Ring<DwTile>::kBarrierBytes - SharedAddress(dynamic)));
  const uint32_t warp = Uniform(threadIdx.x / kWarp), warpgroup = warp / (kWarpgroup / kWarp),
                 rank = ClusterRank();
  if (threadIdx.x == 0) ring.Init(1);
  LoadOffsets(p.offsets, p.rows, p.experts, ranges);
  __syncthreads();
  SyncCluster();

  DwTiles tiles(p, ranges, kAccumulate);
  DwPlace at;
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    Ring<DwTile>::Place place;
    if (warp == kConsumerWarps) {
      while (tiles.Next(at)) {
        for (int depth = 0; depth < at.rows; depth += kDepth) {
          const uint32_t full = ring.Full(place.stage), a = ring.A(place.stage),
                         b = ring.B(place.stage) + rank * (kBoxBytes / 2);
          const int r = at.begin + depth, half = r + static_cast<int>(rank) * (kDepth / 2);
          RandomDelay(p.delays, depth);
          WaitBarrier(ring.Empty(place.stage), place.round ^ 1);
          __syncwarp();  // or a lane still waits when what follows has turned the barrier again
          if (threadIdx.x % kWarp == 0) {
            ArriveExpecting(full, Ring<DwTile>::kStageBytes);
#pragma unroll
            for (int i = 0; i < DwTile::kM / 64; ++i)
              CopyTile(a + i * kBoxBytes, p.a, full, at.row + i * 64, r);
#pragma unroll
            for (int i = 0; i < DwTile::kN / 64; ++i)
              CopyTileToCluster(b + i * kBoxBytes, p.b, full, kBothBlocks, at.column + i * 64,
                                half);
          }
          place.Next();
        }
      }
    }
  } else {
    TakeRegisters<kConsumerRegisters>();
    Ring<DwTile>::Place place;
    HeldSums<kAccumulate, kTransposed> held = {p.dw,
                                               staging + warpgroup * kSumBuffers * kSumBufferBytes};
    while (tiles.Next(at)) {
      Sums<DwTile> sum = {};
      Multiplier<DwTile, DwTile::kN, false, false> multiplier = {sum, ring, place, warpgroup,
                                                                 p.delays};
      const int slices = at.rows / kDepth, valid = at.rows % kDepth;
      for (int slice = 0; slice < slices; ++slice) {
        multiplier.Slice();
        held.StoreNext();
      }
      const auto zero_rows = [&](uint32_t stage) {
        if (valid % 16 != 0) ZeroRows(ring, stage, valid, warpgroup);
      };
      switch ((valid + 15) / 16) {
        case 1:
          multiplier.Slice<1>(zero_rows);
          break;
        case 2:
          multiplier.Slice<2>(zero_rows);
          break;
        case 3:
          multiplier.Slice<3>(zero_rows);
          break;
        case 4:
          multiplier.Slice<4>(zero_rows);
      }
      held.StoreRest();
      multiplier.Finish();
      held.Take(sum, at);
    }
    held.StoreRest();
    WaitSentRead();
  }
  __syncwarp();
  SyncCluster();  // the other block may still write here or arrive at a barrier
#endif
}

}  // namespace lacuna::cuda::hopper
