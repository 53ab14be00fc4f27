// From a warpgroup's sums to a matrix of f32 in memory, kStepColumns columns a step, through the copy
// engine: it moves whole lines, where the layout of the sums has 32 bytes of each row a warp, and it
// adds as fast as it writes.
#pragma once

#include <utility>

#include "moe/cuda/hopper/tile.cuh"

namespace lacuna::cuda::hopper {

using DwTile = Tile<128, 192, 4>;

// Columns of the sums a step, an inner box of 128 bytes; rows of a box where the sums stand
// transposed in memory.
inline constexpr int kStepColumns = 32, kSumSteps = DwTile::kN / kStepColumns;
// A warpgroup's sums of a step, 64 x 32; two such buffers take turns.
inline constexpr int kSumBufferBytes = 64 * kStepColumns * 4, kSumBuffers = 2,
                     kSumStagingBytes = kConsumers * kSumBuffers * kSumBufferBytes;

// Matrices [E, m, n], or [E, n, m] where the sums stand transposed, in the boxes of HeldSums.
struct DwMatrices {
  CUtensorMap map;
  int m, n;
};

struct DwPlace {
  int expert, begin, rows;  // of x and dy
  int row, column;          // of the tile in the expert's matrix
};

// A tile's sums until they are stored. kTransposed: columns of the sums are rows in memory.
template <bool kAccumulate, bool kTransposed>
struct HeldSums {
  static_assert(DwTile::kTiles == 1);
  static constexpr int kParts = kStepColumns / 8;

  const DwMatrices& dw;
  uint32_t staging;  // of this warpgroup
  float sum[DwTile::kN / 2];
  int expert, row, column;  // of this warpgroup's first sum
  int next = kSumSteps;
  uint32_t turn = 0;

  // Into the buffer as the copy engine reads it: rows of 128 bytes whose 16-byte pieces are swizzled
  // by the row.
  template <int kStep>
  __device__ __forceinline__ void Stage(uint32_t buffer) const {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp % 4, g = lane / 4,
              t = lane % 4;
    const float* const first = sum + kStep * kParts * 4;
    if constexpr (kTransposed) {
      // Two boxes, of 32 of the sums' rows.
      const uint32_t box = buffer + warp / 2 * (kSumBufferBytes / 2) + g % 4 * 4;
      const int piece = warp % 2 * 4 + g / 4;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = 2 * t + i % 2;
          StoreShared4(box + (8 * part + column) * 128 + ((piece + i / 2 * 2) ^ column) * 16,
                       first[4 * part + i]);
        }
      }
    } else {
      // Odd rows take the parts in another order, so that 8 rows together reach all banks.
      const bool odd = g % 2 != 0;
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int mine = odd ? part ^ 2 : part;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int of = 4 * part + 2 * half, other = 4 * (part ^ 2) + 2 * half;
          StoreShared8(
              buffer + (16 * warp + g + 8 * half) * 128 + ((2 * mine + t / 2) ^ g) * 16 + t % 2 * 8,
              odd ? first[other] : first[of], odd ? first[other + 1] : first[of + 1]);
        }
      }
    }
  }
  // One thread.
  __device__ __forceinline__ void Send(uint32_t buffer, int to_column) const {
    if constexpr (kTransposed) {
      SendTile<kAccumulate>(dw.map, buffer, row, to_column, expert);
      SendTile<kAccumulate>(dw.map, buffer + kSumBufferBytes / 2, row + 32, to_column, expert);
    } else {
      SendTile<kAccumulate>(dw.map, buffer, to_column, row, expert);
    }
    CommitSent();
  }
  // The next step, if there is one. One barrier a step: before it, the thread that sends sees that
  // the other buffer was read, so that the next step may write there.
  __device__ __forceinline__ void StoreNext() {
    if (next >= kSumSteps) return;
    const int to_column = column + next * kStepColumns;
    const uint32_t buffer = staging + turn * kSumBufferBytes;
    // Registers have no addresses: each step has its code.
    [&]<int... kStep>(std::integer_sequence<int, kStep...>) {
      ((next == kStep ? Stage<kStep>(buffer) : void()), ...);
    }
    (std::make_integer_sequence<int, kSumSteps>{});
    const bool sends = threadIdx.x % kWarpgroup == 0;
    FenceAsyncProxy();
    if (sends) WaitSentRead();
    SyncNamed(1 + static_cast<int>(threadIdx.x / kWarpgroup), kWarpgroup);
    if (sends) Send(buffer, to_column);
    turn ^= 1;
    ++next;
    if (to_column + kStepColumns >= dw.n) next = kSumSteps;  // what is left lies outside
  }
  __device__ __forceinline__ void StoreRest() {
    while (next < kSumSteps) StoreNext();
  }
  __device__ __forceinline__ void Take(const Sums<DwTile>& from, const DwPlace& at) {
#pragma unroll
    for (int i = 0; i < DwTile::kN / 2; ++i) sum[i] = from[0][i];
    expert = at.expert;
    row = at.row + Uniform(threadIdx.x / kWarpgroup) * 64;
    column = at.column;
    next = row < dw.m ? 0 : kSumSteps;
  }
};

}  // namespace lacuna::cuda::hopper
