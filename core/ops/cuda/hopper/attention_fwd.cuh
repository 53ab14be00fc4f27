// Attention forward for Hopper (sm_90a).
//
//   block      two warpgroups compute, 64 rows each; one thread brings tiles. As many blocks as
//              multiprocessors; each takes tile after tile.
//   products   S = Q K^T from shared memory to registers; softmax there; P, packed to bf16, is the A of
//              O += P V.
//   overlap    a warpgroup starts the scores of the next key tile and P V of this one together, and
//              does the softmax of the next during P V. Key tiles go by from the last to the first.
//   ring       kStages key tiles, K and V apart. `full`: the bytes are there; `empty`: all consuming
//              warps are done with them. Q has a place per warpgroup, given back after the last scores:
//              the next tile's comes during the last softmax, P V and the stores.
//
// Shared memory: Q [2][Dk / 64][64 x 64], K [kStages][Dk / 64][kKeys x 64], V [kStages][Dv / 64]
// [kKeys x 64], swizzled by the copy engine; the tiles' plans; barriers.
#pragma once

#include "core/cuda/hopper.cuh"
#include "core/cuda/random_delay.h"
#include "core/cuda/wgmma_registers.cuh"
#include "core/ops/cuda/hopper/attention_work.cuh"

namespace lacuna::cuda::hopper::attention {

inline constexpr int kConsumers = 2, kConsumerWarps = kConsumers * kWarpgroup / kWarp,
                     kThreads = (kConsumers + 1) * kWarpgroup;
inline constexpr int kProducerRegisters = 40, kConsumerRegisters = 232;

template <int kKeyWidth, int kValueWidth, int kKeyCount, int kStageCount, bool kTurns_>
struct FwdConfig {
  static constexpr int kDk = kKeyWidth, kDv = kValueWidth, kKeys = kKeyCount,
                       kStages = kStageCount;
  static constexpr bool kTurns = kTurns_;
  static constexpr int kQBytes = 64 * kDk * 2, kKBytes = kKeys * kDk * 2, kVBytes = kKeys * kDv * 2;
  static constexpr int kQBox = 64 * 128, kKeyBox = kKeys * 128;  // bytes of 64 columns
  static_assert(kKeys % 16 == 0 && kDk % 64 == 0 && kDv % 64 == 0);
};

template <class Keys>
struct FwdParams {
  CUtensorMap q, k, v;
  WorkSizes work;
  Keys keys;
  BFloat16* o;
  float* lse;
  uint32_t delays;  // of RandomDelay
};

// A stage of a ring and how often the ring went round.
template <int kStages>
struct Place {
  uint32_t stage = 0, round = 0;
  __device__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      round ^= 1;
    }
  }
};

template <class Config>
struct Memory {
  static constexpr int kStages = Config::kStages;
  static constexpr int kTiles = kConsumers * Config::kQBytes +
                                kStages * (Config::kKBytes + Config::kVBytes),
                       kBarriers = 2 * (kConsumers + 2 * kStages),
                       kBytes = kTiles + kConsumers * sizeof(WorkTile) + kBarriers * 8;

  uint32_t base;

  __device__ uint32_t Q(uint32_t warpgroup) const { return base + warpgroup * Config::kQBytes; }
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
      InitBarrier(QEmpty(w), kConsumerWarps / kConsumers);
    }
    for (uint32_t s = 0; s < 2 * kStages; ++s) {
      InitBarrier(KFull(s), 1);
      InitBarrier(KEmpty(s), kConsumerWarps);
    }
    FenceBarrierInit();
  }
};

// One thread: plans tiles and brings what they need.
template <class Config, class Keys>
struct Producer {
  const FwdParams<Keys>& p;
  const Memory<Config> memory;
  WorkTile* plans;
  Place<Config::kStages> k = {}, v = {};
  uint32_t q_round = 0;

  __device__ void Run() {
    Schedule schedule;
    WorkTile tile;
    while (schedule.Next(p.work, p.keys, tile)) {
      if (tile.key_tiles > 0) BringK(tile, tile.key_tiles - 1);
      for (uint32_t w = 0; w < kConsumers; ++w) BringQ(tile, w);
      for (int i = tile.key_tiles - 2; i >= 0; --i) {
        BringK(tile, i);
        BringV(tile, i + 1);
      }
      if (tile.key_tiles > 0) BringV(tile, 0);
      q_round ^= 1;
    }
    tile.tokens = 0;
    for (uint32_t w = 0; w < kConsumers; ++w) {
      WaitBarrier(memory.QEmpty(w), q_round ^ 1);
      plans[w] = tile;
      ArriveExpecting(memory.QFull(w), 0);
    }
  }

 private:
  __device__ void BringQ(const WorkTile& tile, uint32_t w) {
    WaitBarrier(memory.QEmpty(w), q_round ^ 1);
    plans[w] = tile;
    ArriveExpecting(memory.QFull(w), Config::kQBytes);
    const int head = tile.group << p.work.rep_shift,
              token = tile.first_token + static_cast<int>(w) * p.work.tile_tokens / kConsumers;
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c)
      CopyTile(memory.Q(w) + c * Config::kQBox, p.q, memory.QFull(w), 64 * c, head, token);
  }
  __device__ void BringK(const WorkTile& tile, int i) {
    RandomDelay(p.delays, 32 + i);
    WaitBarrier(memory.KEmpty(k.stage), k.round ^ 1);
    ArriveExpecting(memory.KFull(k.stage), Config::kKBytes);
#pragma unroll
    for (int c = 0; c < Config::kDk / 64; ++c) {
      CopyTile(memory.K(k.stage) + c * Config::kKeyBox, p.k, memory.KFull(k.stage), 64 * c,
               tile.group, Keys::KeyOf(tile, i));
    }
    k.Next();
  }
  __device__ void BringV(const WorkTile& tile, int i) {
    WaitBarrier(memory.VEmpty(v.stage), v.round ^ 1);
    ArriveExpecting(memory.VFull(v.stage), Config::kVBytes);
#pragma unroll
    for (int c = 0; c < Config::kDv / 64; ++c) {
      CopyTile(memory.V(v.stage) + c * Config::kKeyBox, p.v, memory.VFull(v.stage), 64 * c,
               tile.group, Keys::KeyOf(tile, i));
    }
    v.Next();
  }
};

__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Barriers 1 and 2: a warpgroup's turn to start products. They take turns, so that one's softmax falls
// in the other's products.
__device__ inline void AwaitTurn(uint32_t warpgroup) {
  SyncNamed(1 + static_cast<int>(warpgroup), kConsumers * kWarpgroup);
}
__device__ inline void GiveTurn(uint32_t warpgroup) {
  asm volatile("bar.arrive %0, %1;" ::"r"(1 + static_cast<int>(warpgroup)),
               "n"(kConsumers * kWarpgroup)
               : "memory");
}

// Running maxima (of unscaled scores) and sums of a thread's two rows; the sums are of its own
// columns.
struct SoftmaxState {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, shrink[2];

  // Scores -> exp(scale (score - maximum)), in place; `shrink`: by how much what was summed before
  // shrinks. factor: scale in units of log 2, positive.
  template <int kCount>
  __device__ __forceinline__ void Step(float (&s)[kCount], float factor) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float even = s[2 * r], odd = s[2 * r + 1];
#pragma unroll
      for (int j = 4; j < kCount; j += 4) {
        even = fmaxf(even, s[j + 2 * r]);
        odd = fmaxf(odd, s[j + 2 * r + 1]);
      }
      const float largest = fmaxf(top[r], QuadMax(fmaxf(even, odd))),
                  shift = largest == -INFINITY ? 0.0f : largest * factor;
      shrink[r] = Exp2(top[r] * factor - shift);
      top[r] = largest;
      sum[r] *= shrink[r];
#pragma unroll
      for (int j = 0; j < kCount; j += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& x = s[j + 2 * r + e];
          x = Exp2(fmaf(x, factor, -shift));
          sum[r] += x;
        }
      }
    }
  }
};

template <class Config, class Keys>
struct Consumer {
  static constexpr int kKeys = Config::kKeys, kSteps = kKeys / 16;
  using Scores = float[kKeys / 2];
  using Weights = uint32_t[kSteps][4];
  using Outputs = float[Config::kDv / 2];

  const FwdParams<Keys>& p;
  const Memory<Config> memory;
  const WorkTile* plan;
  const uint32_t warpgroup;  // uniform
  Place<Config::kStages> k = {}, v = {};
  uint32_t q_round = 0;

  __device__ void Run() {
    if (Config::kTurns && warpgroup == 1) GiveTurn(0);
    while (true) {
      WaitBarrier(memory.QFull(warpgroup), q_round);
      WorkTile tile = *plan;
      tile.tokens = Uniform(tile.tokens);
      tile.key_tiles = Uniform(tile.key_tiles);
      tile.whole_begin = Uniform(tile.whole_begin);
      tile.whole_end = Uniform(tile.whole_end);
      if (tile.tokens == 0) return;
      Attend(tile);
      q_round ^= 1;
    }
  }

 private:
  __device__ static void Release(uint32_t barrier) {
    if (threadIdx.x % kWarp == 0) ArriveAt(barrier, 0);
  }
  __device__ __forceinline__ void AwaitKeys() {
    RandomDelay(p.delays, 2 * k.stage + k.round);
    WaitBarrier(memory.KFull(k.stage), k.round);
  }
  __device__ __forceinline__ void StartScores(Scores& s) {
    const uint64_t a = DescribeContiguous(memory.Q(warpgroup)),
                   b = DescribeContiguous(memory.K(k.stage));
    BeginProducts();
#pragma unroll
    for (int step = 0; step < Config::kDk / 16; ++step) {
      const uint64_t at = a + (step / 4 * Config::kQBox >> 4) + step % 4 * kDepthStep<true>,
                     bt = b + (step / 4 * Config::kKeyBox >> 4) + step % 4 * kDepthStep<true>;
      if (step == 0) {
        WarpgroupProduct<kKeys>::template Set<true, true>(s, at, bt);
      } else {
        WarpgroupProduct<kKeys>::template Add<true, true>(s, at, bt);
      }
    }
    CommitProducts();
  }
  __device__ __forceinline__ void StartOutputs(Outputs& o, const Weights& w) {
    RandomDelay(p.delays, 16 + 2 * v.stage + v.round);
    WaitBarrier(memory.VFull(v.stage), v.round);
    const uint64_t b = DescribeAcross(memory.V(v.stage), Config::kKeyBox);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
      RegisterProduct<Config::kDv>::template Add<false>(o, w[step], b + step * kDepthStep<false>);
    CommitProducts();
  }
  __device__ __forceinline__ void Pack(Weights& w, const Scores& s) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) w[i][r] = PackBFloat16(s[8 * i + 2 * r], s[8 * i + 2 * r + 1]);
    }
  }

  __device__ __forceinline__ void Attend(const WorkTile& tile) {
    const int row = static_cast<int>(warpgroup) * 64 + threadIdx.x % kWarpgroup / kWarp * 16 +
                    FragmentRow();
    const int token[2] = {row >> p.work.rep_shift, (row + 8) >> p.work.rep_shift};
    const typename Keys::Rows rows(p.keys, tile, token);
    const float factor = p.work.sizes.scale * kLog2E;
    SoftmaxState softmax;
    Outputs o = {};
    if (tile.key_tiles > 0) {
      Scores s;
      Weights w;
      AwaitKeys();
      StartScores(s);
      WaitProducts<0>();
      PinSums(s);
      Release(memory.KEmpty(k.stage));
      k.Next();
      int i = tile.key_tiles - 1;
      if (i == 0) Release(memory.QEmpty(warpgroup));
      if (i < tile.whole_begin || i >= tile.whole_end) rows.Mask(s, i);
      softmax.Step(s, factor);
      Pack(w, s);
      if (i > 0) AwaitKeys();
      for (--i; i >= 0; --i) {
        if (Config::kTurns) AwaitTurn(warpgroup);
        StartScores(s);
        StartOutputs(o, w);
        if (Config::kTurns) GiveTurn(warpgroup ^ 1);
        WaitProducts<1>();
        PinSums(s);
        Release(memory.KEmpty(k.stage));
        k.Next();
        if (i == 0) Release(memory.QEmpty(warpgroup));
        if (i < tile.whole_begin || i >= tile.whole_end) rows.Mask(s, i);
        softmax.Step(s, factor);
        PinSums(s);
        // Before P V is waited for: behind a loop, it keeps the softmax from sinking below that wait.
        if (i > 0) AwaitKeys();
        WaitProducts<0>();
        PinSums(o);
        Release(memory.VEmpty(v.stage));
        v.Next();
#pragma unroll
        for (int j = 0; j < Config::kDv / 2; ++j) o[j] *= softmax.shrink[j / 2 % 2];
        Pack(w, s);
      }
      StartOutputs(o, w);
      WaitProducts<0>();
      PinSums(o);
      Release(memory.VEmpty(v.stage));
      v.Next();
    } else {
      Release(memory.QEmpty(warpgroup));
    }
    Store(tile, o, softmax, row, token);
  }

  // Four lanes hold columns 2t, 2t + 1 of every 8 of a row; word i of the result is lane i's word t:
  // 8 neighbouring columns, the t-th of four such pieces.
  __device__ static uint4 Gather(const uint32_t (&w)[4]) {
    const bool odd = threadIdx.x % 2 != 0, high = threadIdx.x % 4 >= 2;
    // Words 0 and 1 (2 and 3) of neighbouring lanes change places: lane t has word t % 2 (+ 2) of both.
    const uint2 low = {odd ? w[1] : w[0], __shfl_xor_sync(0xFFFFFFFFu, odd ? w[0] : w[1], 1)},
                up = {odd ? w[3] : w[2], __shfl_xor_sync(0xFFFFFFFFu, odd ? w[2] : w[3], 1)};
    const uint32_t a = high ? up.x : low.x, b = high ? up.y : low.y;
    const uint32_t c = __shfl_xor_sync(0xFFFFFFFFu, high ? low.x : up.x, 2),
                   d = __shfl_xor_sync(0xFFFFFFFFu, high ? low.y : up.y, 2);
    // a, b: words of this lane and of its neighbour; c, d: of the lanes two away.
    const uint32_t first = odd ? b : a, second = odd ? a : b, third = odd ? d : c,
                   fourth = odd ? c : d;
    return high ? uint4{third, fourth, first, second} : uint4{first, second, third, fourth};
  }
  __device__ __forceinline__ void Store(const WorkTile& tile, const Outputs& o,
                                        const SoftmaxState& softmax, int row,
                                        const int (&token)[2]) {
    const int rep_mask = (1 << p.work.rep_shift) - 1;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = QuadSum(softmax.sum[r]), inverse = total == 0 ? 0.0f : 1.0f / total;
      const int head = (tile.group << p.work.rep_shift) + ((row + 8 * r) & rep_mask);
      const bool exists = token[r] < tile.tokens;
      const int64_t at =
          int64_t{tile.first_token + token[r]} * p.work.sizes.heads + head;
      if (exists && FragmentColumn() == 0) {
        p.lse[at] =
            total == 0 ? -INFINITY : softmax.top[r] * p.work.sizes.scale + logf(total);
      }
      BFloat16* const to = p.o + at * Config::kDv + FragmentColumn() * 4;
#pragma unroll
      for (int c = 0; c < Config::kDv / 32; ++c) {
        uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int j = 16 * c + 4 * i + 2 * r;
          words[i] = PackBFloat16(o[j] * inverse, o[j + 1] * inverse);
        }
        const uint4 piece = Gather(words);
        if (exists) StoreWord(reinterpret_cast<uint4*>(to + 32 * c), piece);
      }
    }
  }
};

template <class Config, class Keys>
__global__ void __launch_bounds__(kThreads, 1)
    FwdKernel(const __grid_constant__ FwdParams<Keys> p) {
#if LACUNA_HOPPER_CODE
  extern __shared__ char dynamic[];
  const uint32_t start = SharedAddress(dynamic);
  const Memory<Config> memory = {(start + 1023) / 1024 * 1024};
  WorkTile* const plans = reinterpret_cast<WorkTile*>(dynamic + (memory.Plans() - start));
  const uint32_t warpgroup = Uniform(threadIdx.x / kWarpgroup);
  if (threadIdx.x == 0) memory.Init();
  __syncthreads();
  if (warpgroup == kConsumers) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == kConsumers * kWarpgroup) Producer<Config, Keys>{p, memory, plans}.Run();
  } else {
    TakeRegisters<kConsumerRegisters>();
    Consumer<Config, Keys>{p, memory, plans + warpgroup, warpgroup}.Run();
  }
#endif
}

}  // namespace lacuna::cuda::hopper::attention
