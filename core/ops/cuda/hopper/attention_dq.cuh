// Gradient of the queries for Hopper (sm_90a), by rows as in the forward (attention_fwd.cuh).
//
//   block      two warpgroups compute, 64 rows each; one thread brings tiles.
//   products   S = Q K^T and dP = dO V^T from shared memory to registers;
//              dS = exp(scale S - lse) (dP - delta), packed to bf16, is the A of dQ += dS K.
//   overlap    dQ of a key tile and the scores of the next are started together; K is given back when
//              the first is done, and only then dP of the next is started. The other warpgroup fills
//              what gaps remain.
//
// dq = scale dQ. delta = do . o of the row. Key tiles go by from the last to the first.
#pragma once

#include "core/cuda/wgmma_registers.cuh"
#include "core/ops/cuda/hopper/attention_pipeline.cuh"
#include "core/ops/cuda/hopper/attention_softmax.cuh"
#include "core/ops/cuda/hopper/attention_store.cuh"

namespace lacuna::cuda::hopper::attention {

// S and dP take kKeys registers, dQ kDk / 2.
template <int kDk, int kDv, int kStages>
struct DqConfig : TileConfig<2, kDk, kDv, 64, kStages, true> {
  static constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;
};

template <class Keys>
struct DqParams {
  CUtensorMap q, k, v, d_o;
  WorkSizes work;
  Keys keys;
  const float *lse, *delta;
  BFloat16* dq;
  bool add;             // to what dq holds
  float scale, factor;  // factor: of scores, in units of log 2
  uint32_t delays;      // of RandomDelay
};

template <class Config, class Keys>
struct DqConsumer {
  static constexpr int kKeys = Config::kKeys, kSteps = kKeys / 16;
  using Scores = float[kKeys / 2];

  const DqParams<Keys>& p;
  const Memory<Config> memory;
  const WorkTile* plan;
  const uint32_t warpgroup;  // uniform
  RingPlace<Config::kStages> k = {}, v = {};

  __device__ void Run() {
    ForTiles(memory, warpgroup, plan, [&](const WorkTile& tile) { Differentiate(tile); });
  }

 private:
  __device__ static void Release(uint32_t barrier) {
    if (threadIdx.x % kWarp == 0) ArriveAt(barrier, 0);
  }
  // s = a b^T over kWidth columns, both in boxes of 64.
  template <int kWidth>
  __device__ __forceinline__ void StartProduct(Scores& s, uint32_t rows, uint32_t keys) {
    const uint64_t a = DescribeContiguous(rows), b = DescribeContiguous(keys);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kWidth / 16; ++step) {
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
  __device__ __forceinline__ void StartScores(Scores& s) {
    WaitBarrier(memory.KFull(k.stage), k.round);
    StartProduct<Config::kDk>(s, memory.Q(warpgroup), memory.K(k.stage));
  }
  __device__ __forceinline__ void StartDp(Scores& dp) {
    WaitBarrier(memory.VFull(v.stage), v.round);
    StartProduct<Config::kDv>(dp, memory.Gradient(warpgroup), memory.V(v.stage));
  }
  __device__ __forceinline__ void PassK() {
    WaitBarrier(memory.KFull(k.stage), k.round);
    Release(memory.KEmpty(k.stage));
    k.Next();
  }
  __device__ __forceinline__ void PassV() {
    WaitBarrier(memory.VFull(v.stage), v.round);
    Release(memory.VEmpty(v.stage));
    v.Next();
  }
  __device__ __forceinline__ void Pass(int tiles) {
    for (; tiles > 0; --tiles) {
      PassK();
      PassV();
    }
  }

  __device__ __forceinline__ void Differentiate(const WorkTile& tile) {
    const int row = static_cast<int>(warpgroup) * kWarpgroupRows +
                    threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
    const int token[2] = {row >> p.work.rep_shift, (row + 8) >> p.work.rep_shift};
    const typename Keys::Rows rows(p.keys, tile, token);
    float minus_lse[2], delta[2];  // a row without keys has weights of 0
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      minus_lse[r] = -INFINITY;
      delta[r] = 0;
      if (token[r] >= tile.tokens) continue;
      const int64_t at = RowOf(p.work, tile, token[r], row + 8 * r);
      const float lse = p.lse[at];
      if (lse != -INFINITY) minus_lse[r] = -lse * kLog2E;
      delta[r] = p.delta[at];
    }
    float dq[Config::kDk / 2] = {};
    int i = rows.NextChosen(tile.key_tiles - 1);
    Pass(tile.key_tiles - 1 - i);
    // Runs of key tiles that follow one another so closely that K of one may stay while the next is
    // waited for: the producer brings tiles in turn.
    while (i >= 0) {
      Scores s, dp;
      uint32_t w[kSteps][4];
      int next = -1;
      uint32_t stage = k.stage;  // of K of tile i
      StartScores(s);
      k.Next();
      StartDp(dp);
      while (true) {
        RandomDelay(p.delays, i);
        const auto entry = rows.Entry(i);
        next = rows.NextChosen(i - 1);
        WaitProducts<1>();
        PinSums(s);
        rows.Mask(s, entry);
#pragma unroll
        for (int j = 0; j < kKeys / 2; ++j) s[j] = Exp2(fmaf(s[j], p.factor, minus_lse[j / 2 % 2]));
        PinSums(s);
        WaitProducts<0>();
        PinSums(dp);
        Release(memory.VEmpty(v.stage));
        v.Next();
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const int j = 8 * step + 2 * e, r = e % 2;
            w[step][e] = PackBFloat16(s[j] * (dp[j] - delta[r]), s[j + 1] * (dp[j + 1] - delta[r]));
          }
        }
        BeginProducts();
        const uint64_t b = DescribeAcross(memory.K(stage), Config::kKeyBox);
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
          RegisterProduct<Config::kDk>::template Add<false>(dq, w[step],
                                                            b + step * kDepthStep<false>);
        CommitProducts();
        if (next < 0 || i - next >= Config::kStages) break;
        for (int pass = i - next - 1; pass > 0; --pass) PassK();
        const uint32_t done = stage;
        stage = k.stage;
        StartScores(s);
        k.Next();
        WaitProducts<1>();
        PinSums(dq);
        Release(memory.KEmpty(done));
        for (int pass = i - next - 1; pass > 0; --pass) PassV();
        StartDp(dp);
        i = next;
      }
      WaitProducts<0>();
      PinSums(dq);
      Release(memory.KEmpty(stage));
      Pass(i - next - 1);
      i = next;
    }
    Release(memory.QEmpty(warpgroup));
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      BFloat16* const to = p.dq + RowOf(p.work, tile, token[r], row + 8 * r) * Config::kDk;
      const bool exists = token[r] < tile.tokens;
      if (p.add) AddRow<Config::kDk>(to, dq, r, 1 / p.scale, exists);
      StoreRow<Config::kDk>(to, dq, r, p.scale, exists);
    }
  }
};

template <class Config, class Keys>
__global__ void __launch_bounds__(kThreads<Config>, 1)
    DqKernel(const __grid_constant__ DqParams<Keys> p) {
#if LACUNA_HOPPER_CODE
  char* const dynamic = DynamicShared();
  const uint32_t start = SharedAddress(dynamic);
  const Memory<Config> memory = {(start + 1023) / 1024 * 1024};
  WorkTile* const plans = reinterpret_cast<WorkTile*>(dynamic + (memory.Plans() - start));
  const uint32_t warpgroup = Uniform(threadIdx.x / kWarpgroup);
  if (threadIdx.x == 0) memory.Init();
  __syncthreads();
  if (warpgroup == Config::kConsumers) {
    GiveRegisters<Config::kProducerRegisters>();
    if (threadIdx.x == Config::kConsumers * kWarpgroup)
      Producer<Config, DqParams<Keys>>{p, memory, plans}.Run();
  } else {
    TakeRegisters<Config::kConsumerRegisters>();
    DqConsumer<Config, Keys>{p, memory, plans + warpgroup, warpgroup}.Run();
  }
#endif
}

}  // namespace lacuna::cuda::hopper::attention
