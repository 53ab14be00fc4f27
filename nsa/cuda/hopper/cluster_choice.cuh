// The choice among a token's block scores, by a cluster whose blocks have the sums of a share of the
// compressed rows each.
//
//   Offer     a block scores the selection blocks that begin in its share; its warp 0 takes the largest
//             ones, as many as there are places, and tells every block of the cluster
//   -- cluster --
//   Finish    in every block, its warp 0 chooses among what was offered: what wins among all candidates
//             wins in its own share, so that this is the choice among all; equal scores go to the lowest
//             index, since offers stand in the order of indices
//
// Scores are those of nsa/select_blocks.h, rows ascending.
#pragma once

#include "core/cuda/hopper.cuh"
#include "nsa/cuda/hopper/block_choice.cuh"

namespace lacuna::cuda::hopper::select {

// (key, block); key 0 where there is none.
struct Offers {
  const uint2* offers;
  int count;
  __device__ uint32_t operator[](int i) const {
    const int at = i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
    return at < count ? offers[at].x : 0;
  }
  template <class F>
  __device__ void ForEach(F&& f) const {
    const int rounds = (count + kWarp - 1) / kWarp;
#pragma unroll 4
    for (int i = 0; i < rounds; ++i) f(i, (*this)[i]);
  }
};

template <int kBlocks, int kThreads>
struct ClusterChoice {
  Contest contest;
  int places, pieces, overlap;
  int compressed, share, rank;  // rows; of all blocks but the last; this block
  // In shared memory, at the same places in all blocks: sums of this block's rows; scores of its
  // selection blocks; [kBlocks][places]; [places].
  float *sums, *scores;
  uint2* offers;
  int32_t* list;

  // Floats that `scores` needs.
  __host__ __device__ static int64_t ScoresSize(int64_t rows_of_share, int64_t overlap) {
    return (rows_of_share + overlap + 1) / 2 * 2;
  }

  // All threads, after a barrier of the cluster behind the sums.
  __device__ void Offer() const {
    if (contest.AllWin()) return;
    const int first = FirstBlock(rank), end = EndBlock();
    for (int j = first + static_cast<int>(threadIdx.x); j < end; j += kThreads)
      scores[j - first] = Score(j);
    __syncthreads();
    if (threadIdx.x >= kWarp) return;
    const int lane = static_cast<int>(threadIdx.x), from = max(first, contest.init),
              to = min(end, contest.local);
    int taken = max(0, to - from);
    if (taken > contest.free) {
      constexpr int kHeld = 8;
      const Candidates own{{scores - first, end}, from, to};
      taken = taken <= kHeld * kWarp ? Take(HeldCandidates<kHeld>(own), contest.free, from, list)
                                     : Take(own, contest.free, from, list);
    } else {
      for (int i = lane; i < taken; i += kWarp) list[i] = from + i;
    }
    __syncwarp();
    for (int i = lane; i < kBlocks * places; i += kWarp) {
      const int at = i % places;
      uint2 offer = {0, 0};
      if (at < taken)
        offer = uint2{Candidates::Key(scores[list[at] - first]), static_cast<uint32_t>(list[at])};
      StoreToBlock8(SharedAddress(offers + rank * places + at), static_cast<uint32_t>(i / places),
                    make_float2(__uint_as_float(offer.x), __uint_as_float(offer.y)));
    }
    __syncwarp();
  }

  // Warp 0, after the next barrier of the cluster; the others see the list after one of the block.
  __device__ void Finish() const {
    if (contest.AllWin()) {
      contest.WriteAll(places, list);
    } else {
      const int next = contest.init +
                       Take(Offers{offers, kBlocks * places}, contest.free, 0, list + contest.init);
      __syncwarp();
      for (int i = contest.init + static_cast<int>(threadIdx.x); i < next; i += kWarp)
        list[i] = static_cast<int32_t>(offers[list[i]].y);
      contest.WriteForced(places, next, list);
    }
    __syncwarp();
  }

 private:
  // Selection blocks whose first row is in the share of block `r` or behind.
  __device__ int FirstBlock(int r) const {
    return r == 0 ? 0 : min((r * share + pieces - 1) / pieces, EndOfAll());
  }
  __device__ int EndBlock() const {
    return rank == kBlocks - 1 ? EndOfAll() : FirstBlock(rank + 1);
  }
  // Behind those that any row reaches, or that compete.
  __device__ int EndOfAll() const {
    const int reached = compressed == 0 ? 0 : (compressed + overlap - 2) / pieces + 1;
    return max(reached, contest.local);
  }
  __device__ float Score(int j) const {
    float score = 0;
    for (int k = 1 - overlap; k < pieces; ++k) {  // rows from the block's first piece on
      const int row = j * pieces + k;
      if (row < 0 || row >= compressed) continue;
      const auto count = static_cast<float>(min(overlap, pieces - k) - max(0, -k));
      score += count * Sum(row);
    }
    return score;
  }
  __device__ float Sum(int row) const {
    const int at = row - rank * share;
    if (at >= 0 && at < share) return sums[at];
    return LoadFromBlock4(SharedAddress(sums + row % share), static_cast<uint32_t>(row / share));
  }
};

}  // namespace lacuna::cuda::hopper::select
