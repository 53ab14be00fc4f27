// Attention of one token to a whole cache.
//
// Fast form: a block a (sequence, group, split), then one a (sequence, head) that merges the splits
// in their order. Splits are a function of the sequence's length alone: so few that their sums are
// 1 % of what is read, so many that one sequence fills the card.
#pragma once

#include "core/cuda/decode_tiles.cuh"
#include "core/cuda/hopper.cuh"

namespace lacuna::cuda::decode {

inline constexpr int kMostSplits = 64, kFewestKeys = 512;

__host__ __device__ inline int SplitKeys(int length) {
  const int keys = (length + kMostSplits - 1) / kMostSplits;
  const int whole = (keys + 63) / 64 * 64;
  return whole < kFewestKeys ? kFewestKeys : whole;
}
__host__ __device__ inline int NumSplits(int length) {
  return (length + SplitKeys(length) - 1) / SplitKeys(length);
}

struct Params {
  const void* q;
  void* o;
  const int4* tokens;
  const int64_t* addresses;
  int columns, column, heads, groups, dk, dv, splits;
  float factor;
  float* partial;  // [B, H, splits, Dv]
  float2* states;  // [B, H, splits]: shift, sum

  __device__ const BFloat16* Cache(const int4& token, int which) const {
    return reinterpret_cast<const BFloat16*>(
        addresses[token.z * int64_t{columns} + column + which]);
  }
};

template <class Config>
__global__ void __launch_bounds__(kTileThreads, 2) SplitKernel(const __grid_constant__ Params p) {
  const int split = static_cast<int>(blockIdx.x), group = static_cast<int>(blockIdx.y);
  const int4 token = p.tokens[blockIdx.z];
  const int length = token.y + 1, keys = SplitKeys(length), begin = split * keys;
  if (begin >= length) return;
  const int warp = static_cast<int>(threadIdx.x) / 32, rep = p.heads / p.groups;
  char* const shared = DynamicShared();
  using Attention = WarpAttention<Config>;
  static_assert(kWarps * kRows * kSumStride<Config> * 4 <= Attention::kRingBytes);
  Attention attention;
  attention.ring = SharedAddress(shared) + static_cast<uint32_t>(warp * Attention::kWarpBytes);
  const int k_stride = p.groups * Config::kDk, v_stride = p.groups * Config::kDv;
  const KeyRows rows{.k = p.Cache(token, 0) + int64_t{begin} * k_stride + group * Config::kDk,
                     .v = p.Cache(token, 1) + int64_t{begin} * v_stride + group * Config::kDv,
                     .k_stride = k_stride,
                     .v_stride = v_stride,
                     .count = min(keys, length - begin)};
  attention.Begin(rows, 0, (rows.count + kKeys - 1) / kKeys, warp);
  LoadQueries<Config>(
      static_cast<const BFloat16*>(p.q) + (int64_t{token.x} * p.heads + group * rep) * Config::kDk,
      rep, attention.q);
  attention.Attend(p.factor);

  auto* const states = reinterpret_cast<float2*>(shared + Attention::kRingBytes);  // [warps][rows]
  float weight[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const float2 state = attention.RowState(r);
    if (threadIdx.x % 4 == 0) states[warp * kRows + FragmentRow() + 8 * r] = state;
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = FragmentRow() + 8 * r;
    const float2 all = MergeStates(kWarps, [&](int w) { return states[w * kRows + row]; });
    const float own = states[warp * kRows + row].x;
    weight[r] = own == -INFINITY ? 0.0f : Exp2(own - all.x);
  }
  auto* const sums = reinterpret_cast<float*>(shared);
  StoreWeighted<Config>(attention.o, weight, sums, warp);
  __syncthreads();
  const int64_t first_head = int64_t{blockIdx.z} * p.heads + group * rep;
  for (int i = static_cast<int>(threadIdx.x); i < rep * Config::kDv / 2; i += kTileThreads) {
    const int row = i / (Config::kDv / 2), column = i % (Config::kDv / 2) * 2;
    auto* out = reinterpret_cast<float2*>(
        p.partial + ((first_head + row) * p.splits + split) * Config::kDv + column);
    *out = SumOverWarps<Config>(sums, row, column);
  }
  const int row = static_cast<int>(threadIdx.x);
  if (row < rep) {
    p.states[(first_head + row) * p.splits + split] =
        MergeStates(kWarps, [&](int w) { return states[w * kRows + row]; });
  }
}

// A thread an element.
__global__ void MergeKernel(const __grid_constant__ Params p) {
  const int4 token = p.tokens[blockIdx.y];
  const int64_t head = int64_t{blockIdx.y} * p.heads + blockIdx.x;
  const int splits = NumSplits(token.y + 1), c = static_cast<int>(threadIdx.x);
  const float2* states = p.states + head * p.splits;
  const float2 all = MergeStates(splits, [&](int i) { return states[i]; });
  float sum = 0;
#pragma unroll 8
  for (int i = 0; i < splits; ++i) {
    const float shift = states[i].x, weight = shift == -INFINITY ? 0.0f : Exp2(shift - all.x);
    sum += weight * p.partial[(head * p.splits + i) * p.dv + c];
  }
  static_cast<BFloat16*>(p.o)[(int64_t{token.x} * p.heads + blockIdx.x) * p.dv + c] =
      BFloat16(sum / all.y);
}

}  // namespace lacuna::cuda::decode
