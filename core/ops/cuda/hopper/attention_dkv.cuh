// Gradients of keys and values for Hopper (sm_90a).
//
//   block      64 keys stay; the rows (token, head) of the tokens that see them go by, 32 at a time,
//              gathered token by token by the copy engine. Two warpgroups take turns with the row
//              tiles; their sums are added at the end, in that order.
//   products   keys x rows, so that P^T and dS^T stand in registers as the A of the next products:
//                S^T = K Q^T, dP^T = V dO^T     P^T = exp(scale S^T - lse), dS^T = P^T (dP^T - delta)
//                dV += P^T dO, dK += dS^T Q
//   ring       kStages row tiles: Q, dO and per row -lse, delta and the keys that its token sees.
//
// A policy says which keys and tokens a grid block has and where its sums go.
#pragma once

#include "core/cuda/fast_math.cuh"
#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/wgmma_registers.cuh"
#include "core/ops/cuda/hopper/attention_pipeline.cuh"

namespace lacuna::cuda::hopper::attention {

template <int kKeyWidth, int kValueWidth, int kStageCount>
struct DkvConfig {
  static constexpr int kDk = kKeyWidth, kDv = kValueWidth, kStages = kStageCount, kKeys = 64,
                       kRows = 32, kConsumers = 2;
  static constexpr int kKBytes = kKeys * kDk * 2, kVBytes = kKeys * kDv * 2,
                       kQBytes = kRows * kDk * 2, kGradientBytes = kRows * kDv * 2,
                       kScalarBytes = 1024;
  static constexpr int kKeyBox = kKeys * 128, kRowBox = kRows * 128;  // of 64 columns
  static constexpr int kStageBytes = kQBytes + kGradientBytes + kScalarBytes;
  static constexpr int kTiles = kKBytes + kVBytes + kStages * kStageBytes,
                       kBytes = kTiles + (1 + 2 * kStages) * 8;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
  // What a thread of the second warpgroup hands over.
  static constexpr int kSums = (kDk + kDv) / 2;
  static_assert(kSums * kWarpgroup * 4 <= kStages * kStageBytes);
};

template <class Rows>
struct DkvParams {
  CUtensorMap q, k, v, d_o;  // rows of q and d_o a token at a time
  AttentionSizes sizes;
  Rows rows;
  const float *lse, *delta;
  float scale, factor;  // factor: of scores, in units of log 2
  uint32_t delays;      // of RandomDelay
};

// What a grid block works on.
struct DkvWork {
  int group;
  int first_key;  // row of k
  int keys;       // there are
  int tokens;     // that see some of them, of this grid block
  int64_t first;  // of the tokens, as the policy numbers them
  int64_t at;     // what else the policy has to know of it
};

// The keys of the tile that a token sees.
struct KeyRange {
  int first, last;
};

template <class Config>
struct DkvMemory {
  uint32_t base;
  __device__ uint32_t K() const { return base; }
  __device__ uint32_t V() const { return base + Config::kKBytes; }
  __device__ uint32_t Ring() const { return V() + Config::kVBytes; }
  __device__ uint32_t Q(uint32_t stage) const { return Ring() + stage * Config::kStageBytes; }
  __device__ uint32_t Gradient(uint32_t stage) const { return Q(stage) + Config::kQBytes; }
  // [4][kRows]: -lse in units of log 2, delta, first and last key
  __device__ uint32_t Scalars(uint32_t stage) const {
    return Gradient(stage) + Config::kGradientBytes;
  }
  __device__ uint32_t KeysFull() const { return base + Config::kTiles; }
  __device__ uint32_t Full(uint32_t stage) const { return KeysFull() + 8 + 16 * stage; }
  __device__ uint32_t Empty(uint32_t stage) const { return Full(stage) + 8; }
};

// A warp: brings the keys and values, then row tile after row tile.
template <class Config, class Rows>
__device__ void ProduceRows(const DkvParams<Rows>& p, const DkvMemory<Config>& m,
                            const DkvWork& work) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, rep = p.sizes.rep,
            tile_tokens = Config::kRows / rep, first_head = work.group * rep;
  if (lane == 0) {
    ArriveExpecting(m.KeysFull(), Config::kKBytes + Config::kVBytes);
    for (int c = 0; c < Config::kDk / 64; ++c)
      CopyTile(m.K() + c * Config::kKeyBox, p.k, m.KeysFull(), 64 * c, work.group, work.first_key);
    for (int c = 0; c < Config::kDv / 64; ++c)
      CopyTile(m.V() + c * Config::kKeyBox, p.v, m.KeysFull(), 64 * c, work.group, work.first_key);
  }
  const int tiles = (work.tokens + tile_tokens - 1) / tile_tokens;
  if (tiles == 0) return;
  // Of this lane's row of a tile. Behind the last token the last one stands again, with weights of 0.
  struct Row {
    int token;
    float minus_lse, delta;
    KeyRange keys;
  };
  const auto row_of = [&](int tile) {
    const int i = tile * tile_tokens + lane / rep;
    Row row;
    row.token = p.rows.Token(work, min(i, work.tokens - 1));
    const int64_t at = int64_t{row.token} * p.sizes.heads + first_head + lane % rep;
    const float lse = p.lse[at];
    row.minus_lse = i < work.tokens && lse != -INFINITY ? -lse * kLog2E : -INFINITY;
    row.delta = p.delta[at];
    row.keys = p.rows.KeysOf(work, row.token);
    return row;
  };
  RingPlace<Config::kStages> place;
  Row next = row_of(0);
  for (int tile = 0; tile < tiles; ++tile) {
    const Row row = next;
    if (tile + 1 < tiles) next = row_of(tile + 1);
    RandomDelay(p.delays, tile);
    WaitBarrier(m.Empty(place.stage), place.round ^ 1);
    const uint32_t scalars = m.Scalars(place.stage) + lane * 4;
    StoreShared4(scalars, row.minus_lse);
    StoreShared4(scalars + Config::kRows * 4, row.delta);
    StoreShared4(scalars + Config::kRows * 8, __int_as_float(row.keys.first));
    StoreShared4(scalars + Config::kRows * 12, __int_as_float(row.keys.last));
    __syncwarp();
    if (lane == 0) ArriveExpecting(m.Full(place.stage), Config::kQBytes + Config::kGradientBytes);
    __syncwarp();
    if (lane % rep == 0) {
      const uint32_t at = lane * 128;
      for (int c = 0; c < Config::kDk / 64; ++c)
        CopyTile(m.Q(place.stage) + c * Config::kRowBox + at, p.q, m.Full(place.stage), 64 * c,
                 first_head, row.token);
      for (int c = 0; c < Config::kDv / 64; ++c)
        CopyTile(m.Gradient(place.stage) + c * Config::kRowBox + at, p.d_o, m.Full(place.stage),
                 64 * c, first_head, row.token);
    }
    __syncwarp();
    place.Next();
  }
}

template <class Config, class Rows>
struct DkvConsumer {
  static constexpr int kSteps = Config::kRows / 16;
  using Scores = float[Config::kRows / 2];
  using Weights = uint32_t[kSteps][4];

  const DkvParams<Rows>& p;
  const DkvMemory<Config> m;
  const DkvWork& work;
  const uint32_t warpgroup;  // uniform
  float dk[Config::kDk / 2] = {}, dv[Config::kDv / 2] = {};

  // s = keys rows^T over kWidth columns.
  template <int kWidth>
  __device__ __forceinline__ void StartProduct(Scores& s, uint32_t keys, uint32_t rows) {
    const uint64_t a = DescribeContiguous(keys), b = DescribeContiguous(rows);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      const uint64_t at = a + (step / 4 * Config::kKeyBox >> 4) + step % 4 * kDepthStep<true>,
                     bt = b + (step / 4 * Config::kRowBox >> 4) + step % 4 * kDepthStep<true>;
      if (step == 0) {
        WarpgroupProduct<Config::kRows>::template Set<true, true>(s, at, bt);
      } else {
        WarpgroupProduct<Config::kRows>::template Add<true, true>(s, at, bt);
      }
    }
    CommitProducts();
  }
  // sum += w rows, rows [kRows, kWidth].
  template <int kWidth>
  __device__ __forceinline__ void StartSum(float (&sum)[kWidth / 2], const Weights& w,
                                           uint32_t rows) {
    const uint64_t b = DescribeAcross(rows, Config::kRowBox);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      RegisterProduct<kWidth>::template Add<false>(sum, w[step], b + step * kDepthStep<false>);
    CommitProducts();
  }
  __device__ __forceinline__ void Tile(uint32_t stage) {
    Scores s, dp;
    StartProduct<Config::kDk>(s, m.K(), m.Q(stage));
    StartProduct<Config::kDv>(dp, m.V(), m.Gradient(stage));
    const uint32_t scalars = m.Scalars(stage) + FragmentColumn() * 4;
    const int key = threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
    WaitProducts<1>();
    PinSums(s);
#pragma unroll
    for (int j = 0; j < Config::kRows / 8; ++j) {
      const float2 minus_lse = LoadShared8(scalars + 32 * j),
                   first = LoadShared8(scalars + 32 * j + Config::kRows * 8),
                   last = LoadShared8(scalars + 32 * j + Config::kRows * 12);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const bool even = e % 2 == 0;
        const int of = key + e / 2 * 8;
        const float weight = Exp2(fmaf(s[4 * j + e], p.factor, even ? minus_lse.x : minus_lse.y));
        const bool seen = of >= __float_as_int(even ? first.x : first.y) &&
                          of <= __float_as_int(even ? last.x : last.y);
        s[4 * j + e] = seen ? weight : 0.0f;
      }
    }
    PinSums(s);
    WaitProducts<0>();
    PinSums(dp);
    Weights weights, ds;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        // Columns 8 (2 step + e / 2) + 2t and the next of key row e % 2.
        const int j = 8 * step + 2 * e;
        const float2 delta = LoadShared8(scalars + 32 * (2 * step + e / 2) + Config::kRows * 4);
        weights[step][e] = PackBFloat16(s[j], s[j + 1]);
        ds[step][e] = PackBFloat16(s[j] * (dp[j] - delta.x), s[j + 1] * (dp[j + 1] - delta.y));
      }
    }
    StartSum<Config::kDv>(dv, weights, m.Gradient(stage));
    StartSum<Config::kDk>(dk, ds, m.Q(stage));
    WaitProducts<0>();
    PinSums(dv);
    PinSums(dk);
    if (threadIdx.x % kWarp == 0) ArriveAt(m.Empty(stage), 0);
  }
  __device__ void Run() {
    const int tile_tokens = Config::kRows / p.sizes.rep,
              tiles = Uniform((work.tokens + tile_tokens - 1) / tile_tokens);
    WaitBarrier(m.KeysFull(), 0);
    RingPlace<Config::kStages> place;
    if (warpgroup == 1) place.Next();
    for (int tile = static_cast<int>(warpgroup); tile < tiles; tile += Config::kConsumers) {
      RandomDelay(p.delays, tile);
      WaitBarrier(m.Full(place.stage), place.round);
      Tile(place.stage);
      place.Next();
      place.Next();
    }
    // The ring is empty: every tile was waited for.
    constexpr int kAll = Config::kConsumers * kWarpgroup;
    const uint32_t at = m.Ring() + threadIdx.x % kWarpgroup * 4;
    SyncNamed(1, kAll);
    if (warpgroup == 1) {
#pragma unroll
      for (int j = 0; j < Config::kDk / 2; ++j) StoreShared4(at + j * kWarpgroup * 4, dk[j]);
#pragma unroll
      for (int j = 0; j < Config::kDv / 2; ++j)
        StoreShared4(at + (Config::kDk / 2 + j) * kWarpgroup * 4, dv[j]);
    }
    SyncNamed(1, kAll);
    if (warpgroup == 0) {
      Store<Config::kDk>(dk, at, 0, p.scale);
      Store<Config::kDv>(dv, at + Config::kDk / 2 * kWarpgroup * 4, Config::kDk, 1.0f);
    }
  }
  template <int kWidth>
  __device__ __forceinline__ void Store(const float (&sum)[kWidth / 2], uint32_t other,
                                        int first_column, float factor) {
    const int key = threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = 4 * j + 2 * r;
        p.rows.Put(work, key + 8 * r, first_column + FragmentColumn() + 8 * j,
                   (sum[i] + LoadShared4(other + i * kWarpgroup * 4)) * factor,
                   (sum[i + 1] + LoadShared4(other + (i + 1) * kWarpgroup * 4)) * factor);
      }
    }
  }
};

template <class Config, class Rows>
__global__ void __launch_bounds__(Config::kThreads, 1)
    DkvKernel(const __grid_constant__ DkvParams<Rows> p) {
#if LACUNA_HOPPER_CODE
  DkvWork work;
  if (!p.rows.Take(p.sizes, work)) return;
  const DkvMemory<Config> m = {(SharedAddress(DynamicShared()) + 1023) / 1024 * 1024};
  const uint32_t warpgroup = Uniform(threadIdx.x / kWarpgroup);
  if (threadIdx.x == 0) {
    InitBarrier(m.KeysFull(), 1);
    for (uint32_t s = 0; s < Config::kStages; ++s) {
      InitBarrier(m.Full(s), 1);
      InitBarrier(m.Empty(s), kWarpgroup / kWarp);
    }
    FenceBarrierInit();
  }
  __syncthreads();
  if (warpgroup == Config::kConsumers) {
    GiveRegisters<40>();
    if (threadIdx.x / kWarp == Config::kConsumers * kWarpgroup / kWarp)
      ProduceRows<Config>(p, m, work);
  } else {
    TakeRegisters<232>();
    DkvConsumer<Config, Rows>{p, m, work, warpgroup}.Run();
  }
#endif
}

}  // namespace lacuna::cuda::hopper::attention
