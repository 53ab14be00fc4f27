// Attention of one token to a whole cache.
//
// Fast form: a block a (sequence, group, split), then one a (sequence, head) that merges the splits
// in their order. Splits are a function of the sequence's length alone: so few that their sums are
// 1 % of what is read, so many that one sequence fills the card.
#include "core/cuda/decode_rows.cuh"
#include "core/cuda/decode_tiles.cuh"
#include "core/cuda/hopper.cuh"
#include "core/cuda/launch.cuh"
#include "core/cuda/memory.h"
#include "core/cuda/vector.cuh"
#include "core/ops/decode_attention.h"

namespace lacuna::cuda {
namespace {

using namespace decode;  // NOLINT: the kernels' vocabulary

constexpr int kMostSplits = 64, kFewestKeys = 512;

__host__ __device__ int SplitKeys(int length) {
  const int keys = (length + kMostSplits - 1) / kMostSplits;
  const int whole = (keys + 63) / 64 * 64;
  return whole < kFewestKeys ? kFewestKeys : whole;
}
__host__ __device__ int NumSplits(int length) {
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
  WarpAttention<Config> attention;
  attention.ring = SharedAddress(shared) + static_cast<uint32_t>(warp * Config::kWarpBytes);
  const int64_t k_stride = int64_t{p.groups} * Config::kDk,
                v_stride = int64_t{p.groups} * Config::kDv;
  const KeyRows rows{.k = p.Cache(token, 0) + begin * k_stride + group * Config::kDk,
                     .v = p.Cache(token, 1) + begin * v_stride + group * Config::kDv,
                     .k_stride = k_stride,
                     .v_stride = v_stride,
                     .count = min(keys, length - begin)};
  attention.Begin(rows, 0, (rows.count + kKeys - 1) / kKeys, warp);
  attention.LoadQueries(
      static_cast<const BFloat16*>(p.q) + (int64_t{token.x} * p.heads + group * rep) * Config::kDk,
      rep);
  attention.Attend(p.factor, [](int, const float(&)[8]) {});

  auto* const states = reinterpret_cast<float2*>(shared + Config::kRingBytes);  // [warps][rows]
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

template <class T>
__global__ void __launch_bounds__(kHeadThreads) HeadKernel(const __grid_constant__ Params p) {
  __shared__ HeadSums sums;
  const int head = static_cast<int>(blockIdx.x), group = head / (p.heads / p.groups);
  const int4 token = p.tokens[blockIdx.y];
  const int64_t row = int64_t{token.x} * p.heads + head;
  const auto cache = [&](int which) {
    return reinterpret_cast<const T*>(p.addresses[token.z * int64_t{p.columns} + p.column + which]);
  };
  AttendHead(
      static_cast<const T*>(p.q) + row * p.dk, cache(0) + group * p.dk, cache(1) + group * p.dv,
      int64_t{p.groups} * p.dk, int64_t{p.groups} * p.dv, p.dk, p.dv, token.y + 1, p.factor, sums,
      [](int i) { return int64_t{i}; }, [](int, float) {},
      [&](int c, float x) { static_cast<T*>(p.o)[row * p.dv + c] = Store<T>(x); });
}

template <class Config>
void LaunchSplits(const DecodeAttentionArgs& args, Params p, Stream stream) {
  const auto batch = static_cast<unsigned>(args.tokens.dim(0));
  const int length = static_cast<int>(args.max_length);
  // No sequence has more splits than keys / kFewestKeys, nor than kMostSplits.
  p.splits = std::min(kMostSplits, (length + kFewestKeys - 1) / kFewestKeys);
  const int64_t rows = int64_t{batch} * p.heads * p.splits;
  const Workspace workspace(rows * (Config::kDv * 4 + 8), stream);
  p.partial = workspace.As<float>();
  p.states = reinterpret_cast<float2*>(p.partial + rows * Config::kDv);
  LaunchGrid(SplitKernel<Config>,
             dim3(static_cast<unsigned>(p.splits), static_cast<unsigned>(p.groups), batch),
             kTileThreads, Config::kRingBytes + kWarps * kRows * 8, stream, p);
  LaunchGrid(MergeKernel, dim3(static_cast<unsigned>(p.heads), batch), Config::kDv, 0, stream, p);
}

}  // namespace

void DecodeAttention(const DecodeAttentionArgs& args, Stream stream) {
  Params p = {.q = args.q.data,
              .o = args.o.data,
              .tokens = args.tokens.As<const int4>(),
              .addresses = args.addresses.As<const int64_t>(),
              .columns = static_cast<int>(args.addresses.dim(1)),
              .column = args.k_column,
              .heads = static_cast<int>(args.q.dim(1)),
              .groups = static_cast<int>(args.groups),
              .dk = static_cast<int>(args.q.dim(2)),
              .dv = static_cast<int>(args.o.dim(2)),
              .splits = 0,
              .factor = static_cast<float>(args.scale) * kLog2E,
              .partial = nullptr,
              .states = nullptr};
  const bool fast = args.q.dtype == DType::kBF16 && p.heads / p.groups <= kRows && args.scale > 0 &&
                    IsAligned(args.q.data) && IsAligned(args.o.data);
  if (fast && p.dk == 192 && p.dv == 128) return LaunchSplits<Config<192, 128, 2>>(args, p, stream);
  if (fast && p.dk == 128 && p.dv == 128) return LaunchSplits<Config<128, 128, 2>>(args, p, stream);
  if (fast && p.dk == 64 && p.dv == 64) return LaunchSplits<Config<64, 64, 3>>(args, p, stream);
  if (p.dk > kMostWidth || p.dv > kMostWidth)
    Fail(__FILE__, __LINE__, "decode_attention: heads wider than 256", cudaErrorInvalidValue);
  DispatchDeviceFloat(args.q.dtype, [&](auto tag) {
    LaunchGrid(HeadKernel<typename decltype(tag)::type>,
               dim3(static_cast<unsigned>(p.heads), static_cast<unsigned>(args.tokens.dim(0))),
               kHeadThreads, 0, stream, p);
  });
}

}  // namespace lacuna::cuda
