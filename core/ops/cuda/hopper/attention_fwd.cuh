// Attention forward for Hopper (sm_90a).
//
//   block      three warpgroups compute, 64 rows each; one thread brings tiles. As many blocks as
//              multiprocessors; each takes tile after tile.
//   products   S = Q K^T from shared memory to registers; softmax there; P, packed to bf16, is the A of
//              O += P V. Key tiles go by from the last to the first.
//   overlap    a warpgroup starts the scores of a key tile and the first steps of the one before's
//              P V together; the maxima are found during these, the exponentials during the other
//              steps. (A warp stands still while it starts a product whose turn has not come: all of
//              P V started at once would delay the softmax.) Two more warpgroups fill what gaps remain.
//   ring       kStages key tiles, K and V apart. `full`: the bytes are there; `empty`: all consuming
//              warps are done with them. Q has a place per warpgroup, given back after the last
//              scores; the next tile's comes during the last softmax, P V and the stores.
//
// Nothing of a row depends on which block takes its tile, nor on the other rows.
//
// Shared memory: Q [3][Dk / 64][64 x 64], K [kStages][Dk / 64][kKeys x 64], V [kStages][Dv / 64]
// [kKeys x 64], swizzled by the copy engine; the warpgroups' plans; barriers.
#pragma once

#include "core/cuda/wgmma_registers.cuh"
#include "core/ops/cuda/hopper/attention_pipeline.cuh"
#include "core/ops/cuda/hopper/attention_softmax.cuh"
#include "core/ops/cuda/hopper/attention_store.cuh"

namespace lacuna::cuda::hopper::attention {

// kKeys: of a key tile. S, P and O take 3/4 kKeys + kDv / 2 registers.
// kEarlySteps: of P V, 16 keys each, started with the next scores.
template <int kDk, int kDv, int kKeys, int kStages, int kEarlyStepCount = 2>
struct FwdConfig : TileConfig<3, kDk, kDv, kKeys, kStages, false> {
  static constexpr int kEarlySteps = kEarlyStepCount, kProducerRegisters = 56,
                       kConsumerRegisters = 152;
};

template <class Keys>
struct FwdParams {
  CUtensorMap q, k, v;
  WorkSizes work;
  Keys keys;
  BFloat16* o;
  float* lse;
  GatedSum gated;   // of lists
  float factor;     // of scores, in units of log 2
  uint32_t delays;  // of RandomDelay
};

template <class Config, class Keys>
struct Consumer {
  static constexpr int kKeys = Config::kKeys, kSteps = kKeys / 16,
                       kEarlySteps = Config::kEarlySteps;
  using Scores = float[kKeys / 2];
  using Weights = uint32_t[kSteps][4];
  using Outputs = float[Config::kDv / 2];

  const FwdParams<Keys>& p;
  const Memory<Config> memory;
  const WorkTile* plan;
  const uint32_t warpgroup;  // uniform
  RingPlace<Config::kStages> k = {}, v = {};

  __device__ void Run() {
    ForTiles(memory, warpgroup, plan, [&](const WorkTile& tile) { Attend(tile); });
  }

 private:
  __device__ static void Release(uint32_t barrier) {
    if (threadIdx.x % kWarp == 0) ArriveAt(barrier, 0);
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
  // O += P V over steps [kFrom, kTo) of 16 keys.
  template <int kFrom, int kTo>
  __device__ __forceinline__ void StartOutputs(Outputs& o, const Weights& w) {
    const uint64_t b = DescribeAcross(memory.V(v.stage), Config::kKeyBox);
    BeginProducts();
#pragma unroll
    for (int step = kFrom; step < kTo; ++step)
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
    const int row = static_cast<int>(warpgroup) * kWarpgroupRows +
                    threadIdx.x % kWarpgroup / kWarp * 16 + FragmentRow();
    const int token[2] = {row >> p.work.rep_shift, (row + 8) >> p.work.rep_shift};
    const typename Keys::Rows rows(p.keys, tile, token);
    SoftmaxState softmax;
    Outputs o = {};
    if constexpr (Keys::kLists) {
      AttendList(tile, rows, softmax, o);
    } else if (tile.key_tiles > 0) {
      Scores s;
      Weights w;
      const int last = tile.key_tiles - 1;
      WaitBarrier(memory.KFull(k.stage), k.round);
      for (int i = last; i >= 0; --i) {
        RandomDelay(p.delays, i);
        StartScores(s);
        if (i < last) {
          WaitBarrier(memory.VFull(v.stage), v.round);
          StartOutputs<0, kEarlySteps>(o, w);
          WaitProducts<1>();
        } else {
          WaitProducts<0>();
        }
        PinSums(s);
        Release(memory.KEmpty(k.stage));
        k.Next();
        if (i == 0) Release(memory.QEmpty(warpgroup));
        rows.Mask(s, i);
        const bool raised = softmax.Raise(s, p.factor);
        PinSums(softmax.shift);
        // In one branch with the products, or the exponentials would not start before the last.
        if (i < last) {
          StartOutputs<kEarlySteps, kSteps>(o, w);
          softmax.Exponentiate(s, p.factor);
        } else {
          softmax.Exponentiate(s, p.factor);
        }
        PinSums(s);
        // Before P V is waited for: behind a loop, it keeps the softmax from sinking below that wait.
        if (i > 0) WaitBarrier(memory.KFull(k.stage), k.round);
        WaitProducts<0>();
        PinSums(o);
        if (i < last) {
          Release(memory.VEmpty(v.stage));
          v.Next();
        }
        if (raised) {
#pragma unroll
          for (int j = 0; j < Config::kDv / 2; ++j) o[j] *= softmax.shrink[j / 2 % 2];
        }
        Pack(w, s);
      }
      WaitBarrier(memory.VFull(v.stage), v.round);
      StartOutputs<0, kSteps>(o, w);
      WaitProducts<0>();
      PinSums(o);
      Release(memory.VEmpty(v.stage));
      v.Next();
    } else {
      Release(memory.QEmpty(warpgroup));
    }
    Store(tile, o, softmax, row, token);
  }

  // Of the key tiles that go by, those that a token of the warpgroup chose, run by run: where they
  // follow one another, the scores of one start with P V of the one before, as above. Where others pass
  // between them, keeping V of the one before meanwhile would hold up the producer.
  __device__ __forceinline__ void AttendList(const WorkTile& tile, const typename Keys::Rows& rows,
                                             SoftmaxState& softmax, Outputs& o) {
    int i = rows.NextChosen(tile.key_tiles - 1);
    Pass(tile.key_tiles - 1 - i);
    while (i >= 0) {
      Scores s;
      Weights w;
      bool first = true;  // of the run: no P V is still to be done
      int next = -1;
      while (true) {
        RandomDelay(p.delays, i);
        const auto entry = rows.Entry(i);
        WaitBarrier(memory.KFull(k.stage), k.round);
        StartScores(s);
        if (!first) {
          WaitBarrier(memory.VFull(v.stage), v.round);
          StartOutputs<0, kEarlySteps>(o, w);
          WaitProducts<1>();
        } else {
          WaitProducts<0>();
        }
        PinSums(s);
        ReleaseK();
        next = rows.NextChosen(i - 1);
        rows.Mask(s, entry);
        const bool raised = softmax.Raise(s, p.factor);
        PinSums(softmax.shift);
        if (!first) {
          StartOutputs<kEarlySteps, kSteps>(o, w);
          softmax.Exponentiate(s, p.factor);
        } else {
          softmax.Exponentiate(s, p.factor);
        }
        PinSums(s);
        // Again, as above: the softmax stays before it.
        if (!first) WaitBarrier(memory.VFull(v.stage), v.round);
        WaitProducts<0>();
        PinSums(o);
        if (!first) ReleaseV();
        if (raised) {
#pragma unroll
          for (int j = 0; j < Config::kDv / 2; ++j) o[j] *= softmax.shrink[j / 2 % 2];
        }
        Pack(w, s);
        if (next < 0 || next < i - 1) break;
        first = false;
        i = next;
      }
      WaitBarrier(memory.VFull(v.stage), v.round);
      StartOutputs<0, kSteps>(o, w);
      WaitProducts<0>();
      PinSums(o);
      ReleaseV();
      Pass(i - next - 1);
      i = next;
    }
    Release(memory.QEmpty(warpgroup));
  }
  // Tiles that nobody chose.
  __device__ __forceinline__ void Pass(int tiles) {
    for (; tiles > 0; --tiles) {
      WaitBarrier(memory.KFull(k.stage), k.round);
      ReleaseK();
      WaitBarrier(memory.VFull(v.stage), v.round);
      ReleaseV();
    }
  }
  __device__ __forceinline__ void ReleaseK() {
    Release(memory.KEmpty(k.stage));
    k.Next();
  }
  __device__ __forceinline__ void ReleaseV() {
    Release(memory.VEmpty(v.stage));
    v.Next();
  }

  __device__ __forceinline__ void Store(const WorkTile& tile, const Outputs& o,
                                        const SoftmaxState& softmax, int row,
                                        const int (&token)[2]) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float total = QuadSum(softmax.sum[r]), inverse = total == 0 ? 0.0f : Reciprocal(total);
      const bool exists = token[r] < tile.tokens;
      const int64_t at = RowOf(p.work, tile, token[r], row + 8 * r);
      if (exists && FragmentColumn() == 0)
        p.lse[at] = total == 0 ? -INFINITY : kLn2 * (softmax.shift[r] + Log2(total));
      const auto pieces = TradePieces<Config::kDv>(o, r, inverse);
      StorePieces<Config::kDv>(p.o + at * Config::kDv, pieces, exists);
      if constexpr (Keys::kLists) {
        if (p.gated.sum != nullptr) StoreGatedSum<Config::kDv>(p.gated, at, pieces, exists);
      }
    }
  }
};

template <class Config, class Keys>
__global__ void __launch_bounds__(kThreads<Config>, 1)
    FwdKernel(const __grid_constant__ FwdParams<Keys> p) {
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
      Producer<Config, FwdParams<Keys>>{p, memory, plans}.Run();
  } else {
    TakeRegisters<Config::kConsumerRegisters>();
    Consumer<Config, Keys>{p, memory, plans + warpgroup, warpgroup}.Run();
  }
#endif
}

}  // namespace lacuna::cuda::hopper::attention
