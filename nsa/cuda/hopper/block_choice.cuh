// The choice among a token's block scores, by a warp.
//
// Scores become integers in their order: 0 where there is no candidate, 1 for NaN, then the bits of
// the score, which is not negative. The smallest one that is taken is found by halving an interval
// and counting; a lane looks at every 32nd candidate. All lanes of the warp call everything here.
#pragma once

#include <cmath>

#include "core/cuda/reduce.cuh"
#include "nsa/select_blocks.h"

namespace lacuna::cuda::hopper::select {

// A probability as it counts; NaN stays NaN.
__device__ inline float WithFloor(float p) {
  return p < kLeastProbability ? 0.0f : p;
}

struct Choice {
  int32_t* blocks;
  float *scores, *entropy;  // null if not asked for
  int places, num_init, num_local;
  int scores_width;  // Ts
};

// Scores of a token's blocks; those from `reached` on have 0.
struct TokenScores {
  const float* score;
  int reached;
  __device__ float operator[](int j) const { return j < reached ? score[j] : 0.0f; }
};

// Blocks [first, end), as integers.
struct Candidates {
  TokenScores scores;
  int first, end;
  __device__ uint32_t operator[](int i) const {
    const int j = first + i * kWarp + static_cast<int>(threadIdx.x) % kWarp;
    return j < end ? Key(scores[j]) : 0;
  }
  __device__ static uint32_t Key(float score) {
    return isnan(score) ? 1 : __float_as_uint(score) + 2;
  }
  template <class F>
  __device__ void ForEach(F&& f) const {
    const int rounds = (end - first + kWarp - 1) / kWarp;
#pragma unroll 4
    for (int i = 0; i < rounds; ++i) f(i, (*this)[i]);
  }
};
// The same, at most kHeld * 32 of them, in registers.
template <int kHeld>
struct HeldCandidates {
  uint32_t key[kHeld];
  __device__ explicit HeldCandidates(const Candidates& all) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) key[i] = all[i];
  }
  template <class F>
  __device__ void ForEach(F&& f) const {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) f(i, key[i]);
  }
};

// What is taken: all above `least`, and the first `ties` of those equal to it.
struct Threshold {
  uint32_t least;
  int ties;
};

// For the `count` largest of more than `count` candidates.
template <class All>
__device__ Threshold FindThreshold(const All& candidates, int count) {
  if (count <= 0) return {UINT32_MAX, 0};
  uint32_t largest = 0;
  candidates.ForEach([&](int, uint32_t key) { largest = max(largest, key); });
  // At least `count` are at least `low`, fewer (`above`) are at least `high`. To begin with: every
  // lane's largest, where those are enough.
  uint32_t low = max(1u, count <= kWarp ? __reduce_min_sync(0xFFFFFFFFu, largest) : 1u),
           high = __reduce_max_sync(0xFFFFFFFFu, largest) + 1;
  int above = 0;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    int mine = 0;
    candidates.ForEach([&](int, uint32_t key) { mine += key >= middle ? 1 : 0; });
    const int there = __reduce_add_sync(0xFFFFFFFFu, mine);
    if (there >= count) {
      low = middle;
      if (there == count) return {low, INT32_MAX};
    } else {
      high = middle;
      above = there;
    }
  }
  return {low, count - above};
}

// Writes what is taken, ascending; returns how many.
template <class All>
__device__ int WriteTaken(const All& candidates, Threshold taken, int first, int32_t* out) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const unsigned before = (1u << lane) - 1;
  int written = 0, ties = 0;
  candidates.ForEach([&](int i, uint32_t key) {
    const unsigned equal = __ballot_sync(0xFFFFFFFFu, key == taken.least);
    const bool tie = key == taken.least && ties + __popc(equal & before) < taken.ties;
    const bool is_taken = key > taken.least || tie;
    const unsigned all = __ballot_sync(0xFFFFFFFFu, is_taken);
    if (is_taken) out[written + __popc(all & before)] = first + i * kWarp + lane;
    written += __popc(all);
    ties += __popc(equal);
  });
  return written;
}

template <class All>
__device__ int Take(const All& candidates, int count, int first, int32_t* out) {
  return WriteTaken(candidates, FindThreshold(candidates, count), first, out);
}

// Blocks [0, init) and [local, own] of a token are forced, those between compete for `free` places.
struct Contest {
  int init, local, own, free;
  __device__ Contest(int places, int num_init, int num_local, int own_block)
      : init(min(num_init, own_block + 1)),
        local(max(init, own_block - num_local + 1)),
        own(own_block),
        free(places - init - (own + 1 - local)) {}
  __device__ bool AllWin() const { return free >= local - init; }

  // The list but for the winners, which stand in [init, next).
  __device__ void WriteForced(int places, int next, int32_t* out) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    for (int j = lane; j < init; j += kWarp) out[j] = j;
    for (int j = local + lane; j <= own; j += kWarp) out[next + j - local] = j;
    for (int i = next + own + 1 - local + lane; i < places; i += kWarp) out[i] = -1;
  }
  // Where all win.
  __device__ void WriteAll(int places, int32_t* out) const {
    for (int j = init + static_cast<int>(threadIdx.x) % kWarp; j < local; j += kWarp) out[j] = j;
    WriteForced(places, local, out);
  }
};

__device__ inline void Choose(const Choice& c, const TokenScores& scores, int own_block,
                              int32_t* out) {
  constexpr int kHeld = 8;  // times 32 candidates at most are held in registers
  const Contest contest(c.places, c.num_init, c.num_local, own_block);
  if (contest.AllWin()) return contest.WriteAll(c.places, out);
  const int init = contest.init, local = contest.local, free = contest.free;
  int next = init;
  const Candidates candidates{scores, init, local};
  if (local - init <= kHeld / 2 * kWarp) {
    next += Take(HeldCandidates<kHeld / 2>(candidates), free, init, out + init);
  } else if (local - init <= kHeld * kWarp) {
    next += Take(HeldCandidates<kHeld>(candidates), free, init, out + init);
  } else {
    next += Take(candidates, free, init, out + init);
  }
  contest.WriteForced(c.places, next, out);
}

__device__ inline float NormalisedEntropy(const TokenScores& scores, int count) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float total = 0, entropy = 0;
  for (int j = lane; j < count; j += kWarp) total += scores[j];
  total = WarpReduce(total);
  if (count < 2 || !(total > 0)) return 0;
  for (int j = lane; j < count; j += kWarp) {
    const float share = scores[j] / total;
    entropy -= share > 0 ? share * logf(share) : 0.0f;
  }
  return WarpReduce(entropy) / logf(static_cast<float>(count));
}

// All that is asked for of row `row` of [N, G].
__device__ inline void WriteChoice(const Choice& c, const TokenScores& scores, int own,
                                   int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  Choose(c, scores, own, c.blocks + row * c.places);
  if (c.entropy != nullptr) {
    const float entropy = NormalisedEntropy(scores, own + 1);
    if (lane == 0) c.entropy[row] = entropy;
  }
  if (c.scores == nullptr) return;
  for (int j = lane; j < c.scores_width; j += kWarp)
    c.scores[row * c.scores_width + j] = j <= own ? scores[j] : 0.0f;
}

}  // namespace lacuna::cuda::hopper::select
