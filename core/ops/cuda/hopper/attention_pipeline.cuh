// What the Hopper attention kernels whose blocks stay with rows share: the shared memory of a block
// and the thread that fills it.
//
//   ring   kStages key tiles, K and V apart. `full`: the bytes are there; `empty`: all consuming warps
//          are done with them. What belongs to the rows has a place per warpgroup.
//
// A configuration has kConsumers warpgroups of 64 rows, widths kDk and kDv, kKeys keys a tile, kStages,
// bytes of a warpgroup's Q (kQBytes) and of all its rows' operands (kRowBytes: Q, or Q and dO), of a
// key tile (kKBytes, kVBytes), and of 64 columns of these (kQBox, kKeyBox).
#pragma once

#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/ring_place.cuh"
#include "core/ops/cuda/hopper/attention_work.cuh"

namespace lacuna::cuda::hopper::attention {

inline constexpr int kWarpgroupRows = 64;
template <class Config>
inline constexpr int kTileRows = Config::kConsumers* kWarpgroupRows;
template <class Config>
inline constexpr int kThreads = (Config::kConsumers + 1) * kWarpgroup;

// Sizes in shared memory.
template <int kConsumerCount, int kKeyWidth, int kValueWidth, int kKeyCount, int kStageCount,
          bool kWithGradient>
struct TileConfig {
  static constexpr int kConsumers = kConsumerCount, kDk = kKeyWidth, kDv = kValueWidth,
                       kKeys = kKeyCount, kStages = kStageCount;
  static constexpr int kQBytes = kWarpgroupRows * kDk * 2,
                       kRowBytes = kQBytes + (kWithGradient ? kWarpgroupRows * kDv * 2 : 0),
                       kKBytes = kKeys * kDk * 2, kVBytes = kKeys * kDv * 2;
  // Of 64 columns.
  static constexpr int kQBox = kWarpgroupRows * 128, kKeyBox = kKeys * 128;
  static_assert(kKeys % 16 == 0 && kDk % 64 == 0 && kDv % 64 == 0);
};

template <class Config>
struct Memory {
  static constexpr int kStages = Config::kStages, kConsumers = Config::kConsumers;
  static constexpr int kTiles = kConsumers * Config::kRowBytes +
                                kStages * (Config::kKBytes + Config::kVBytes),
                       kBarriers = 2 * (kConsumers + 2 * kStages),
                       kBytes = kTiles + kConsumers * sizeof(WorkTile) + kBarriers * 8;

  uint32_t base;

  __device__ uint32_t Q(uint32_t warpgroup) const { return base + warpgroup * Config::kRowBytes; }
  // dO, where the configuration has it.
  __device__ uint32_t Gradient(uint32_t warpgroup) const { return Q(warpgroup) + Config::kQBytes; }
  __device__ uint32_t K(uint32_t stage) const { return Q(kConsumers) + stage * Config::kKBytes; }
  __device__ uint32_t V(uint32_t stage) const { return K(kStages) + stage * Config::kVBytes; }
  __device__ uint32_t Plans() const { return base + kTiles; }
  __device__ uint32_t Barrier(uint32_t i) const {
    return Plans() + kConsumers * sizeof(WorkTile) + 8 * i;
  }
  __device__ uint32_t QFull(uint32_t warpgroup) const { return Barrier(2 * warpgroup); }
  __device__ uint32_t QEmpty(uint32_t warpgroup) const { return Barrier(2 * warpgroup + 1); }
  __device__ uint32_t KFull(uint32_t stage) const { return Barrier(2 * (kConsumers + stage)); }
  __device__ uint32_t KEmpty(uint32_t stage) const { return KFull(stage) + 8; }
  __device__ uint32_t VFull(uint32_t stage) const { return KFull(kStages + stage); }
  __device__ uint32_t VEmpty(uint32_t stage) const { return VFull(stage) + 8; }

  __device__ void Init() const {
    for (uint32_t w = 0; w < kConsumers; ++w) {
      InitBarrier(QFull(w), 1);
      InitBarrier(QEmpty(w), kWarpgroup / kWarp);
    }
    for (uint32_t s = 0; s < 2 * kStages; ++s) {  // of K, then of V
      InitBarrier(KFull(s), 1);
      InitBarrier(KEmpty(s), kConsumers * kWarpgroup / kWarp);
    }
    FenceBarrierInit();
  }
};

// One thread: plans tiles and brings what they need.
template <class Config, class Params>
struct Producer {
  static constexpr int kConsumers = Config::kConsumers;

  const Params& p;
  const Memory<Config> memory;
  WorkTile* plans;
  RingPlace<Config::kStages> k = {}, v = {};
  uint32_t q_round = 0;

  __device__ void Run() {
    WorkTile tile = {}, next = {};
    bool more = TakeTile(p.work, p.keys, tile);
    while (more) {
      // A tile's first key is asked for two tiles ahead: it may have to be read.
      int i = tile.key_tiles - 1, key = KeyOf(tile, i), key_after = KeyOf(tile, i - 1);
      const auto bring = [&] {
        const int v_key = key;
        key = key_after;
        key_after = KeyOf(tile, i - 1);
        BringK(tile, key);
        BringV(tile, v_key);
      };
      if (i >= 0) BringK(tile, key);
      for (uint32_t w = 0; w < kConsumers; ++w) BringQ(tile, w);
      if (--i >= 0) bring();
      // While the consumers have enough to do.
      more = TakeTile(p.work, p.keys, next);
      if (more) PrefetchQ(next);
#pragma unroll 1
      while (--i >= 0) bring();
      if (tile.key_tiles > 0) BringV(tile, key);
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
  __device__ int TokenOf(const WorkTile& tile, uint32_t w) const {
    return tile.first_token + static_cast<int>(w) * p.work.tile_tokens / kConsumers;
  }
  __device__ void PrefetchQ(const WorkTile& tile) {
    for (uint32_t w = 0; w < kConsumers; ++w) {
#pragma unroll
      for (int c = 0; c < Config::kDk / 64; ++c)
        PrefetchTile(p.q, 64 * c, HeadOf(tile), TokenOf(tile, w));
    }
  }
  __device__ void BringQ(const WorkTile& tile, uint32_t w) {
    WaitBarrier(memory.QEmpty(w), q_round ^ 1);
    plans[w] = tile;
    ArriveExpecting(memory.QFull(w), Config::kRowBytes);
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c) {
      CopyTile(memory.Q(w) + c * Config::kQBox, p.q, memory.QFull(w), 64 * c, HeadOf(tile),
               TokenOf(tile, w));
    }
    if constexpr (Config::kRowBytes > Config::kQBytes) {
#pragma unroll
      for (int c = 0; c < Config::kDv / 64; ++c) {
        CopyTile(memory.Gradient(w) + c * Config::kQBox, p.d_o, memory.QFull(w), 64 * c,
                 HeadOf(tile), TokenOf(tile, w));
      }
    }
  }
  __device__ int KeyOf(const WorkTile& tile, int i) const {
    return i >= 0 ? p.keys.KeyOf(tile, i) : 0;
  }
  __device__ void BringK(const WorkTile& tile, int key) {
    RandomDelay(p.delays, 32 + key);
    WaitBarrier(memory.KEmpty(k.stage), k.round ^ 1);
    ArriveExpecting(memory.KFull(k.stage), Config::kKBytes);
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c) {
      CopyTile(memory.K(k.stage) + c * Config::kKeyBox, p.k, memory.KFull(k.stage), 64 * c,
               tile.group, key);
    }
    k.Next();
  }
  __device__ void BringV(const WorkTile& tile, int key) {
    WaitBarrier(memory.VEmpty(v.stage), v.round ^ 1);
    ArriveExpecting(memory.VFull(v.stage), Config::kVBytes);
#pragma unroll
    for (int c = 0; c < Config::kDv / 64; ++c) {
      CopyTile(memory.V(v.stage) + c * Config::kKeyBox, p.v, memory.VFull(v.stage), 64 * c,
               tile.group, key);
    }
    v.Next();
  }
};

// A consuming warpgroup: work(tile) for each tile that the producer plans for it.
template <class Config, class Work>
__device__ __forceinline__ void ForTiles(const Memory<Config>& memory, uint32_t warpgroup,
                                         const WorkTile* plan, Work&& work) {
  for (uint32_t round = 0;; round ^= 1) {
    WaitBarrier(memory.QFull(warpgroup), round);
    WorkTile tile = *plan;
    tile.tokens = Uniform(tile.tokens);
    tile.key_tiles = Uniform(tile.key_tiles);
    tile.whole_begin = Uniform(tile.whole_begin);
    tile.whole_end = Uniform(tile.whole_end);
    if (tile.tokens == 0) return;
    work(tile);
  }
}

}  // namespace lacuna::cuda::hopper::attention
