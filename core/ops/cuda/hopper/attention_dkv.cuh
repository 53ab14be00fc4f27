// Gradients of keys and values for Hopper (sm_90a).
//
//   block      64 keys stay, in registers; the rows (token, head) of the tokens that see them go by,
//              64 at a time, brought by the copy engine.
//   roles      one warpgroup sums dV, the other dK, each over all rows:
//                values  S^T = K Q^T     P^T = exp(scale S^T - lse)     dV += P^T dO
//                keys    dP^T = V dO^T   dS^T = P^T (dP^T - delta)      dK += dS^T Q
//              Products are keys x rows: K and V are A for the whole block, P^T and dS^T, packed, are
//              A of the next product. P^T goes from one to the other through shared memory, each
//              thread's to its twin.
//   overlap    the first product of a row tile is started together with the second product of the
//              tile before, which goes on while the first one's sums are worked on.
//   ring       kStages row tiles: Q and dO, which are full and empty apart, and per row -lse, delta and
//              the keys that its token sees. K and V come as its first tile: before P^T and dS^T of
//              the first rows there are those of zeros.
//
// A policy says which keys and tokens a grid block has and where its sums go. Rows of a tile that are
// none of its tokens' weigh 0 in the sums, so they are to be finite.
#pragma once

#include "core/cuda/fast_math.cuh"
#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/wgmma_registers.cuh"
#include "core/ops/cuda/hopper/attention_pipeline.cuh"

namespace lacuna::cuda::hopper::attention {

template <int kKeyWidth, int kValueWidth>
struct DkvConfig {
  static constexpr int kDk = kKeyWidth, kDv = kValueWidth, kKeys = 64, kRows = 64, kConsumers = 2,
                       kWeightSlots = 2;
  static constexpr int kQBytes = kRows * kDk * 2, kGradientBytes = kRows * kDv * 2,
                       kScalarBytes = 4 * kRows * 4, kWeightBytes = kKeys * kRows * 2;
  static constexpr int kBox = 64 * 128;  // of 64 columns
  static constexpr int kStageBytes = kQBytes + kGradientBytes + kScalarBytes;
  // What is left of 227 KiB, 2 KiB for barriers and alignment.
  static constexpr int kStages = (225 * 1024 - kWeightSlots * kWeightBytes) / kStageBytes;
  static constexpr int kTiles = kStages * kStageBytes + kWeightSlots * kWeightBytes,
                       kBarriers = 4 * kStages + 2 * kWeightSlots,
                       kBytes = kTiles + kBarriers * 8 + kStages * 4;
  static constexpr int kThreads = (kConsumers + 1) * kWarpgroup;
  static_assert(kKeys == kRows && kStages >= 3);
};

template <class Rows>
struct DkvParams {
  CUtensorMap q, d_o;  // boxes of a tile's rows where tokens follow one another, else of a token's
  CUtensorMap k, v;
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
  int start =
      0;  // which of the tokens' tile is taken first; then those before it, then from the last
};

// The keys of the tile that a token sees.
struct KeyRange {
  int first, last;
};

// Whether a policy's tokens follow one another: it says so by kConsecutive.
template <class Rows>
constexpr bool AreConsecutive() {
  if constexpr (requires { Rows::kConsecutive; }) {
    return Rows::kConsecutive;
  } else {
    return false;
  }
}

template <class Config>
struct DkvMemory {
  uint32_t base;
  __device__ uint32_t Q(uint32_t stage) const { return base + stage * Config::kStageBytes; }
  __device__ uint32_t Gradient(uint32_t stage) const { return Q(stage) + Config::kQBytes; }
  // [4][kRows]: -lse in units of log 2, delta, first and last key
  __device__ uint32_t Scalars(uint32_t stage) const {
    return Gradient(stage) + Config::kGradientBytes;
  }
  // P^T: [kRows / 16] fragments of each thread
  __device__ uint32_t Weights(uint32_t slot) const {
    return base + Config::kStages * Config::kStageBytes + slot * Config::kWeightBytes;
  }
  __device__ uint32_t Barrier(uint32_t i) const { return base + Config::kTiles + 8 * i; }
  __device__ uint32_t QFull(uint32_t stage) const { return Barrier(4 * stage); }
  __device__ uint32_t QEmpty(uint32_t stage) const { return EmptyOf(QFull(stage)); }
  __device__ uint32_t GradientFull(uint32_t stage) const { return Barrier(4 * stage + 2); }
  __device__ uint32_t GradientEmpty(uint32_t stage) const { return EmptyOf(GradientFull(stage)); }
  __device__ uint32_t WeightsFull(uint32_t slot) const {
    return Barrier(4 * Config::kStages + 2 * slot);
  }
  __device__ uint32_t WeightsEmpty(uint32_t slot) const { return EmptyOf(WeightsFull(slot)); }
  __device__ static uint32_t EmptyOf(uint32_t full) { return full + 8; }
  // Whether every row of the tile sees every key: 1 or 0.
  __device__ uint32_t Whole(uint32_t stage) const { return Barrier(Config::kBarriers) + 4 * stage; }

  __device__ void Init() const {
    constexpr int kWarps = kWarpgroup / kWarp;
    for (uint32_t s = 0; s < Config::kStages; ++s) {
      InitBarrier(QFull(s), 2);  // the bytes and the scalars
      InitBarrier(QEmpty(s), Config::kConsumers * kWarps);
      InitBarrier(GradientFull(s), 2);
      InitBarrier(GradientEmpty(s), Config::kConsumers * kWarps);
    }
    for (uint32_t s = 0; s < Config::kWeightSlots; ++s) {
      InitBarrier(WeightsFull(s), kWarps);
      InitBarrier(WeightsEmpty(s), kWarps);
    }
    FenceBarrierInit();
  }
};

// Three warps bring the tile of keys, then row tile after row tile: K and Q, V and dO, what a row has
// besides.
template <class Config, class Rows>
struct DkvProducer {
  const DkvParams<Rows>& p;
  const DkvMemory<Config>& m;
  const DkvWork& work;
  const int tiles;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, rep = p.sizes.rep,
            tile_tokens = Config::kRows / rep, first_head = work.group * rep;

  __device__ void BringQ() const {
    Bring<Config::kDk>(
        p.k, p.q, [&](uint32_t stage) { return m.Q(stage); },
        [&](uint32_t stage) { return m.QFull(stage); });
  }
  __device__ void BringGradient() const {
    Bring<Config::kDv>(
        p.v, p.d_o, [&](uint32_t stage) { return m.Gradient(stage); },
        [&](uint32_t stage) { return m.GradientFull(stage); });
  }
  __device__ void BringScalars() const {
    Tell(0);
    if (tiles == 0) return;
    // Of a lane's row of a tile: l and l + 32 are lane l's.
    struct Row {
      float lse, delta;
      KeyRange keys;
    };
    const auto index = [&](int tile, int r) {
      return tile * tile_tokens + (lane + r * kWarp) / rep;
    };
    const auto load = [&](int token, int r) -> Row {
      const int64_t at = int64_t{token} * p.sizes.heads + first_head + (lane + r * kWarp) % rep;
      return {p.lse[at], p.delta[at], p.rows.KeysOf(work, token)};
    };
    // What is read is asked for a tile ahead, what it is asked by two.
    int tile = FirstTile(), after = TileAfter(tile), tokens[2];
    Row next[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      next[r] = load(TokenAt(index(tile, r)), r);
      tokens[r] = TokenAt(index(after, r));
    }
    RingPlace<Config::kStages> place;
    for (int i = 0; i < tiles; ++i) {
      place.Next();
      RandomDelay(p.delays, i);
      WaitBarrier(m.QEmpty(place.stage), place.round ^ 1);
      bool whole = true;
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const bool exists = index(tile, r) < work.tokens;
        const Row& row = next[r];
        const uint32_t at = m.Scalars(place.stage) + (lane + r * kWarp) * 4;
        StoreShared4(at, exists && row.lse != -INFINITY ? -row.lse * kLog2E : -INFINITY);
        StoreShared4(at + Config::kRows * 4, row.delta);
        StoreShared4(at + Config::kRows * 8, __int_as_float(row.keys.first));
        StoreShared4(at + Config::kRows * 12, __int_as_float(row.keys.last));
        whole &= row.keys.first <= 0 && row.keys.last >= Config::kKeys - 1;
      }
      whole = __all_sync(0xFFFFFFFFu, whole);
      if (lane == 0) StoreShared4(m.Whole(place.stage), __int_as_float(whole));
      Tell(place.stage);
      tile = after;
      after = TileAfter(after);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        next[r] = load(tokens[r], r);
        tokens[r] = TokenAt(index(after, r));
      }
    }
  }

 private:
  __device__ int FirstTile() const {
    return work.start / tile_tokens;
  }
  __device__ int TileAfter(int tile) const {
    return tile > 0 ? tile - 1 : tiles - 1;
  }
  // Behind the last token the last one stands again.
  __device__ int TokenAt(int i) const {
    return p.rows.Token(work, min(i, work.tokens - 1));
  }
  // That the stage's scalars are there.
  __device__ void Tell(uint32_t stage) const {
    __syncwarp();
    if (lane == 0) {
      ArriveAt(m.QFull(stage), 0);
      ArriveAt(m.GradientFull(stage), 0);
    }
    __syncwarp();
  }
  // kWidth columns of the keys, then of each row tile, to at(stage), counted by full(stage).
  template <int kWidth, class At, class Full>
  __device__ void Bring(const CUtensorMap& keys, const CUtensorMap& rows, const At& at,
                        const Full& full) const {
    constexpr int kBytes = Config::kRows * kWidth * 2;
    if (lane == 0) {
      ArriveExpecting(full(0), kBytes);
#pragma unroll
      for (int c = 0; c < kWidth / 64; ++c)
        CopyTile(at(0) + c * Config::kBox, keys, full(0), 64 * c, work.group, work.first_key);
    }
    __syncwarp();
    if (tiles == 0) return;
    const int copies = AreConsecutive<Rows>() ? 1 : tile_tokens;
    int tile = FirstTile(), next = TokenAt(tile * tile_tokens + lane);
    RingPlace<Config::kStages> place;
    for (int i = 0; i < tiles; ++i) {
      const int token = next;
      tile = TileAfter(tile);
      next = TokenAt(tile * tile_tokens + lane);
      place.Next();
      RandomDelay(p.delays, i);
      WaitBarrier(m.EmptyOf(full(place.stage)), place.round ^ 1);
      if (lane == 0) ArriveExpecting(full(place.stage), kBytes);
      __syncwarp();
      if (lane < copies) {
#pragma unroll
        for (int c = 0; c < kWidth / 64; ++c)
          CopyTile(at(place.stage) + c * Config::kBox + lane * rep * 128, rows, full(place.stage),
                   64 * c, first_head, token);
      }
      __syncwarp();
    }
  }
};

template <class Config, class Rows>
struct DkvConsumer {
  static constexpr int kSteps = Config::kRows / 16;
  using Scores = float[Config::kRows / 2];
  using Fragments = uint32_t[kSteps][4];

  const DkvParams<Rows>& p;
  const DkvMemory<Config>& m;
  const DkvWork& work;
  const int tiles;  // uniform
  // Row tile and the one before it.
  RingPlace<Config::kStages> now = {}, before = {};
  RingPlace<Config::kWeightSlots> slot = {};

  __device__ __forceinline__ void Next() {
    before = now;
    now.Next();
  }
  __device__ static void Release(uint32_t barrier) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) ArriveAt(barrier, 0);
  }
  // The 64 rows of K or V, as A of products.
  template <int kWidth>
  __device__ __forceinline__ static void LoadOperand(uint32_t (&a)[kWidth / 16][4], uint32_t tile) {
    const uint32_t lane = threadIdx.x % kWarp,
                   row = threadIdx.x % kWarpgroup / kWarp * 16 + lane % 16;
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step)
      LoadMatrices<false>(a[step], tile + step / 4 * Config::kBox + row * 128 +
                                       ((step % 4 * 2 + lane / 16) ^ row % 8) * 16);
    // Other bytes will be copied there once this is released: an arrival does not wait for reads.
    FenceAsyncProxy();
  }
  // s = keys rows^T over kWidth columns.
  template <int kWidth>
  __device__ __forceinline__ static void StartScores(Scores& s,
                                                     const uint32_t (&keys)[kWidth / 16][4],
                                                     uint32_t rows) {
    const uint64_t b = DescribeContiguous(rows);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
      const uint64_t at = b + (step / 4 * Config::kBox >> 4) + step % 4 * kDepthStep<true>;
      if (step == 0) {
        RegisterProduct<Config::kRows>::template Set<true>(s, keys[step], at);
      } else {
        RegisterProduct<Config::kRows>::template Add<true>(s, keys[step], at);
      }
    }
    CommitProducts();
  }
  // sum += w rows, rows [kRows, kWidth].
  template <int kWidth>
  __device__ __forceinline__ static void StartSum(float (&sum)[kWidth / 2], const Fragments& w,
                                                  uint32_t rows) {
    const uint64_t b = DescribeAcross(rows, Config::kBox);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      RegisterProduct<kWidth>::template Add<false>(sum, w[step], b + step * kDepthStep<false>);
    CommitProducts();
  }
  __device__ __forceinline__ static void Pack(Fragments& w, const Scores& s) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        w[step][e] = PackBFloat16(s[8 * step + 2 * e], s[8 * step + 2 * e + 1]);
    }
  }
  __device__ uint32_t OwnWeights() const {
    return m.Weights(slot.stage) + threadIdx.x % kWarpgroup * 16;
  }
  // Of keys that a row does not see, 0.
  __device__ __forceinline__ static void Mask(Scores& s, uint32_t ranges) {
    const int key = threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
#pragma unroll
    for (int j = 0; j < Config::kRows / 8; ++j) {
      const float2 first = LoadShared8(ranges + 32 * j),
                   last = LoadShared8(ranges + 32 * j + Config::kRows * 4);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int of = key + e / 2 * 8;
        const bool seen = of >= __float_as_int(e % 2 == 0 ? first.x : first.y) &&
                          of <= __float_as_int(e % 2 == 0 ? last.x : last.y);
        s[4 * j + e] = seen ? s[4 * j + e] : 0.0f;
      }
    }
  }
  __device__ __forceinline__ void SumValues() {
    float dv[Config::kDv / 2] = {};
    Scores s;
    Fragments weights = {};
    uint32_t keys[Config::kDk / 16][4];
    WaitBarrier(m.QFull(0), 0);
    LoadOperand<Config::kDk>(keys, m.Q(0));
    Release(m.QEmpty(0));
    WaitBarrier(m.GradientFull(0), 0);
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      Next();
      RandomDelay(p.delays, tile);
      const uint32_t scalars = m.Scalars(now.stage) + FragmentColumn() * 4;
      WaitBarrier(m.QFull(now.stage), now.round);
      StartScores<Config::kDk>(s, keys, m.Q(now.stage));
      StartSum<Config::kDv>(dv, weights, m.Gradient(before.stage));
      const bool whole = Uniform(__float_as_int(LoadShared4(m.Whole(now.stage)))) != 0;
      float2 minus_lse[Config::kRows / 8];
#pragma unroll
      for (int j = 0; j < Config::kRows / 8; ++j) minus_lse[j] = LoadShared8(scalars + 32 * j);
      WaitProducts<1>();
      PinSums(s);
#pragma unroll
      for (int j = 0; j < Config::kRows / 2; ++j)
        s[j] = Exp2(fmaf(s[j], p.factor, j % 2 == 0 ? minus_lse[j / 4].x : minus_lse[j / 4].y));
      if (!whole) Mask(s, scalars + Config::kRows * 8);
      PinSums(s);
      // Handed over before the last tile's product is done with its weights.
      Fragments fresh;
      Pack(fresh, s);
      WaitBarrier(m.WeightsEmpty(slot.stage), slot.round ^ 1);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const auto& w = fresh[step];
        StoreShared16(OwnWeights() + step * kWarpgroup * 16, make_uint4(w[0], w[1], w[2], w[3]));
      }
      Release(m.WeightsFull(slot.stage));
      Release(m.QEmpty(now.stage));
      slot.Next();
      WaitBarrier(m.GradientFull(now.stage), now.round);
      WaitProducts<0>();
      PinSums(s);
      PinSums(dv);
      Pack(weights, s);
      Release(m.GradientEmpty(before.stage));
    }
    StartSum<Config::kDv>(dv, weights, m.Gradient(now.stage));
    WaitProducts<0>();
    PinSums(dv);
    Store<Config::kDv>(dv, Config::kDk, 1.0f);
  }
  __device__ __forceinline__ void SumKeys() {
    float dk[Config::kDk / 2] = {};
    Scores dp;
    Fragments ds = {};
    uint32_t values[Config::kDv / 16][4];
    WaitBarrier(m.GradientFull(0), 0);
    LoadOperand<Config::kDv>(values, m.Gradient(0));
    Release(m.GradientEmpty(0));
    WaitBarrier(m.QFull(0), 0);
#pragma unroll 1
    for (int tile = 0; tile < tiles; ++tile) {
      Next();
      RandomDelay(p.delays, tile);
      const uint32_t deltas = m.Scalars(now.stage) + Config::kRows * 4 + FragmentColumn() * 4;
      WaitBarrier(m.GradientFull(now.stage), now.round);
      StartScores<Config::kDv>(dp, values, m.Gradient(now.stage));
      StartSum<Config::kDk>(dk, ds, m.Q(before.stage));
      float2 delta[Config::kRows / 8];
#pragma unroll
      for (int j = 0; j < Config::kRows / 8; ++j) delta[j] = LoadShared8(deltas + 32 * j);
      WaitProducts<1>();
      PinSums(dp);
      Release(m.GradientEmpty(now.stage));
#pragma unroll
      for (int j = 0; j < Config::kRows / 2; ++j)
        dp[j] -= j % 2 == 0 ? delta[j / 4].x : delta[j / 4].y;
      PinSums(dp);
      WaitBarrier(m.WeightsFull(slot.stage), slot.round);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const uint4 w = LoadShared16(OwnWeights() + step * kWarpgroup * 16);
        const uint32_t pairs[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          dp[8 * step + 2 * e] *= __uint_as_float(pairs[e] << 16);
          dp[8 * step + 2 * e + 1] *= __uint_as_float(pairs[e] & 0xFFFF0000u);
        }
      }
      PinSums(dp);
      Release(m.WeightsEmpty(slot.stage));
      slot.Next();
      WaitBarrier(m.QFull(now.stage), now.round);
      WaitProducts<0>();
      PinSums(dk);
      Pack(ds, dp);
      Release(m.QEmpty(before.stage));
    }
    StartSum<Config::kDk>(dk, ds, m.Q(now.stage));
    WaitProducts<0>();
    PinSums(dk);
    Store<Config::kDk>(dk, 0, p.scale);
  }
  template <int kWidth>
  __device__ __forceinline__ void Store(const float (&sum)[kWidth / 2], int first_column,
                                        float factor) const {
    const int key = threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
#pragma unroll
    for (int j = 0; j < kWidth / 8; ++j) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int i = 4 * j + 2 * r;
        p.rows.Put(work, key + 8 * r, first_column + FragmentColumn() + 8 * j, sum[i] * factor,
                   sum[i + 1] * factor);
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
  if (threadIdx.x == 0) m.Init();
  __syncthreads();
  const int tile_tokens = Config::kRows / p.sizes.rep,
            tiles = Uniform((work.tokens + tile_tokens - 1) / tile_tokens);
  if (warpgroup == Config::kConsumers) {
    GiveRegisters<40>();
    const int warp = Uniform(threadIdx.x % kWarpgroup / kWarp);
    const DkvProducer<Config, Rows> producer{p, m, work, tiles};
    if (warp == 0) producer.BringQ();
    if (warp == 1) producer.BringGradient();
    if (warp == 2) producer.BringScalars();
  } else {
    TakeRegisters<232>();
    DkvConsumer<Config, Rows> consumer{p, m, work, tiles};
    if (warpgroup == 0) {
      consumer.SumValues();
    } else {
      consumer.SumKeys();
    }
  }
#endif
}

}  // namespace lacuna::cuda::hopper::attention
