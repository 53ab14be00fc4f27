#include "core/cuda/decode_rows.cuh"
#include "core/cuda/launch.cuh"
#include "core/cuda/memory.h"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/decode_attention.cuh"
#include "core/ops/decode_attention.h"

namespace lacuna::cuda {
namespace {

using namespace decode;  // NOLINT: the kernels' vocabulary

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
             kTileThreads, WarpAttention<Config>::kRingBytes + kWarps * kRows * 8, stream, p);
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
