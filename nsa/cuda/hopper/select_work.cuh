// What a block of the Hopper scores and choice works on, how its shared memory is laid out, and the
// thread that brings tiles.
#pragma once

#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/ring_place.cuh"
#include "core/ops/cuda/hopper/attention_work.cuh"
#include "nsa/cuda/hopper/block_choice.cuh"

namespace lacuna::cuda::hopper::select {

using attention::WorkSizes;
using attention::WorkTile;

inline constexpr int kConsumers = 3, kConsumerWarps = kConsumers * kWarpgroup / kWarp,
                     kThreads = (kConsumers + 1) * kWarpgroup;
inline constexpr int kWarpgroupRows = 64, kTileRows = kConsumers * kWarpgroupRows;
inline constexpr int kProducerRegisters = 56, kConsumerRegisters = 152;
inline constexpr int kSumTiles = 3;

template <int kWidth, int kKeyCount, int kStageCount>
struct Config {
  static constexpr int kDk = kWidth, kKeys = kKeyCount, kStages = kStageCount, kSteps = kDk / 16;
  static constexpr int kQBytes = kWarpgroupRows * kDk * 2, kKBytes = kKeys * kDk * 2;
  static constexpr int kQBox = kWarpgroupRows * 128, kKeyBox = kKeys * 128;  // of 64 columns
  static_assert(kKeys % 64 == 0 && kDk % 64 == 0);
};

// Compressed rows [0, last visible one] of the document in tiles of `keys`; as many tiles as hold
// all pieces of the visible rows.
struct CompressedKeys {
  const int32_t *ranges, *cu_keys;
  int keys, overlap;

  __device__ void Plan(const AttentionSizes&, WorkTile& tile) const {
    const int32_t *first = ranges + 2 * int64_t{tile.first_token},
                  *last = first + 2 * (tile.tokens - 1);
    tile.first_key = cu_keys[tile.document];
    const int visible = last[1] - tile.first_key;
    tile.key_tiles = visible <= 0 ? 0 : (visible + overlap - 1 + keys - 1) / keys;
    tile.whole_begin = 0;
    tile.whole_end = max(0, first[1] - tile.first_key) / keys;
  }
};

struct Params {
  CUtensorMap q, k;
  WorkSizes work;
  CompressedKeys keys;
  Choice choice;
  const float* lse;
  const int32_t *ranges, *positions;
  float* workspace;  // of scores; null: they are in shared memory
  float factor;      // of products, in units of log 2
  int select_block;
  int pieces, overlap;  // of d tokens: in a selection block, in a compressed one
  int tile_blocks;      // selection blocks in a key tile
  int score_stride;
  uint32_t delays;  // of RandomDelay
};

template <class Config>
struct Memory {
  static constexpr int kStages = Config::kStages;
  static constexpr int kTiles = kConsumers * Config::kQBytes + kStages * Config::kKBytes,
                       kLse = kTiles, kPlans = kLse + kConsumers * kWarpgroupRows * 4,
                       kBarriers = kPlans + kConsumers * static_cast<int>(sizeof(WorkTile)),
                       kSums = kBarriers + 2 * (kConsumers + kStages) * 8;

  uint32_t base;

  __device__ uint32_t Q(uint32_t warpgroup) const { return base + warpgroup * Config::kQBytes; }
  __device__ uint32_t K(uint32_t stage) const { return Q(kConsumers) + stage * Config::kKBytes; }
  __device__ uint32_t Lse(uint32_t warpgroup) const {
    return base + kLse + warpgroup * kWarpgroupRows * 4;
  }
  __device__ uint32_t QFull(uint32_t warpgroup) const { return base + kBarriers + 16 * warpgroup; }
  __device__ uint32_t QEmpty(uint32_t warpgroup) const { return QFull(warpgroup) + 8; }
  __device__ uint32_t KFull(uint32_t stage) const { return QFull(kConsumers + stage); }
  __device__ uint32_t KEmpty(uint32_t stage) const { return KFull(stage) + 8; }

  __device__ void Init() const {
    for (uint32_t w = 0; w < kConsumers; ++w) {
      InitBarrier(QFull(w), 1);
      InitBarrier(QEmpty(w), kWarpgroup / kWarp);
    }
    for (uint32_t s = 0; s < kStages; ++s) {
      InitBarrier(KFull(s), 1);
      InitBarrier(KEmpty(s), kConsumerWarps);
    }
    FenceBarrierInit();
  }
};

// One thread: plans tiles and brings what they need.
template <class Config>
struct Producer {
  const Params& p;
  const Memory<Config> memory;
  WorkTile* plans;
  RingPlace<Config::kStages> k = {};
  uint32_t q_round = 0;

  __device__ void Run() {
    WorkTile tile, next;
    bool more = TakeTile(p.work, p.keys, tile);
    while (more) {
      for (uint32_t w = 0; w < kConsumers; ++w) BringQ(tile, w);
      int i = 0;
#pragma unroll 1
      while (i < min(tile.key_tiles, Config::kStages)) BringK(tile, i++);
      // While the consumers have enough to do.
      more = TakeTile(p.work, p.keys, next);
      if (more) PrefetchQ(next);
#pragma unroll 1
      while (i < tile.key_tiles) BringK(tile, i++);
      q_round ^= 1;
      tile = next;
    }
    tile.tokens = 0;
    for (uint32_t w = 0; w < kConsumers; ++w) {
      WaitBarrier(memory.QEmpty(w), q_round ^ 1);
      plans[w] = tile;
      ArriveExpecting(memory.QFull(w), 0);
    }
  }

 private:
  __device__ int HeadOf(const WorkTile& tile) const {
    return tile.group << p.work.rep_shift;
  }
  __device__ int FirstOf(uint32_t w) const {
    return static_cast<int>(w) * (kWarpgroupRows >> p.work.rep_shift);
  }
  __device__ void PrefetchQ(const WorkTile& tile) {
    for (uint32_t w = 0; w < kConsumers; ++w) {
#pragma unroll
      for (int c = 0; c < Config::kDk / 64; ++c)
        PrefetchTile(p.q, 64 * c, HeadOf(tile), tile.first_token + FirstOf(w));
    }
  }
  __device__ void BringQ(const WorkTile& tile, uint32_t w) {
    const int first = FirstOf(w),
              tokens = max(0, min(tile.tokens - first, kWarpgroupRows >> p.work.rep_shift)),
              lse_bytes = 4 << p.work.rep_shift;
    WaitBarrier(memory.QEmpty(w), q_round ^ 1);
    plans[w] = tile;
    ArriveExpecting(memory.QFull(w), Config::kQBytes + tokens * lse_bytes);
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c)
      CopyTile(memory.Q(w) + c * Config::kQBox, p.q, memory.QFull(w), 64 * c, HeadOf(tile),
               tile.first_token + first);
    const float* lse =
        p.lse + int64_t{tile.first_token + first} * p.work.sizes.heads + HeadOf(tile);
    for (int i = 0; i < tokens; ++i, lse += p.work.sizes.heads)
      CopyBytes(memory.Lse(w) + i * lse_bytes, lse, lse_bytes, memory.QFull(w));
  }
  __device__ void BringK(const WorkTile& tile, int i) {
    RandomDelay(p.delays, 32 + i);
    WaitBarrier(memory.KEmpty(k.stage), k.round ^ 1);
    ArriveExpecting(memory.KFull(k.stage), Config::kKBytes);
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c)
      CopyTile(memory.K(k.stage) + c * Config::kKeyBox, p.k, memory.KFull(k.stage), 64 * c,
               tile.group, tile.first_key + i * p.keys.keys);
    k.Next();
  }
};

}  // namespace lacuna::cuda::hopper::select
