#include <algorithm>
#include <bit>

#include "core/cuda/memory.h"
#include "core/cuda/runtime.h"
#include "core/cuda/tensor_map.h"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/attention.h"
#include "core/ops/cuda/hopper/attention_fwd.cuh"

namespace lacuna::cuda::hopper {
namespace {

using attention::FwdConfig;

// Calls f with the configuration for these widths; false where there is none.
template <class F>
bool DispatchConfig(int64_t dk, int64_t dv, F&& f) {
  if (dk == 192 && dv == 128) {
    f(FwdConfig<192, 128, 80, 3>{});
  } else if (dk == 128 && dv == 128) {
    f(FwdConfig<128, 128, 80, 4>{});
  } else if (dk == 64 && dv == 64) {
    f(FwdConfig<64, 64, 112, 4>{});
  } else {
    return false;
  }
  return true;
}

template <class Config>
constexpr auto kKernel = attention::FwdKernel<Config, attention::RangeKeys<Config::kKeys>>;

template <class Config>
bool HasCode(Stream stream) {
  static const bool has =
      HasHopperCode(reinterpret_cast<const void*>(kKernel<Config>), ComputeMajor(stream));
  return has;
}

bool IsPackable(const TensorRef& t) {
  return Packable<BFloat16>(t.data, t.dim(2));
}

// Boxes of 64 columns, `heads` heads and `rows` rows of a tensor [N, H, D].
CUtensorMap HeadsMap(const TensorRef& x, int heads, int rows) {
  const int64_t width = x.dim(2), all = x.dim(1);
  return MakeTensorMap(x.data,
                       {{width, 1, 64}, {all, width, heads}, {x.dim(0), all * width, rows}});
}

// Groups whose keys and values stay in L2 together (50 MB on an H100, also crossed by q and o).
int GroupsTogether(const AttentionSizes& s) {
  constexpr int64_t kBytes = 24 << 20;
  const int64_t group_bytes = s.keys * (s.dk + s.dv) * 2;
  return static_cast<int>(std::clamp<int64_t>(kBytes / group_bytes, 1, s.groups));
}

template <class Config>
void Launch(const AttentionFwdArgs& args, Stream stream) {
  const auto sizes = AttentionSizes::Of(args);
  const int tile_tokens = attention::kTileRows / sizes.rep;
  const auto slots = static_cast<int>(NumSlots(sizes.queries, 1, tile_tokens, sizes.documents));
  const Workspace taken(sizeof(int), stream);
  LACUNA_CUDA_CHECK(
      cudaMemsetAsync(taken.As<int>(), 0, sizeof(int), static_cast<cudaStream_t>(stream.handle)));
  attention::FwdParams<attention::RangeKeys<Config::kKeys>> p = {};
  p.q = HeadsMap(args.q, sizes.rep, attention::kWarpgroupRows / sizes.rep);
  p.k = HeadsMap(args.k, 1, Config::kKeys);
  p.v = HeadsMap(args.v, 1, Config::kKeys);
  p.work = {.sizes = sizes,
            .slots = slots,
            .tile_tokens = tile_tokens,
            .rep_shift = std::countr_zero(static_cast<unsigned>(sizes.rep)),
            .groups_together = GroupsTogether(sizes),
            .taken = taken.As<int>()};
  p.keys = {args.ranges.As<int32_t>()};
  p.o = args.o.As<BFloat16>();
  p.lse = args.lse.As<float>();
  p.factor = static_cast<float>(args.scale) * kLog2E;
  p.delays = RandomDelays();
  const int blocks = std::min(NumMultiprocessors(stream), slots * sizes.groups);
  LaunchGrid(kKernel<Config>, dim3(static_cast<unsigned>(blocks)), dim3(attention::kThreads),
             attention::Memory<Config>::kBytes + 1024, stream, p);
}

}  // namespace

bool Supports(const AttentionFwdArgs& args, Stream stream) {
  const TensorRef &q = args.q, &k = args.k;
  const int64_t rep = q.dim(1) / k.dim(1);
  if (q.dtype != DType::kBF16 || !std::has_single_bit(static_cast<uint64_t>(rep)) ||
      rep > attention::kWarpgroupRows || !(args.scale > 0))
    return false;
  constexpr int64_t kMost = int64_t{1} << 30;  // rows, and slots of all groups, count in 32 bits
  if (q.dim(0) == 0 || k.dim(0) == 0 || q.dim(0) * k.dim(1) > kMost || k.dim(0) > kMost)
    return false;
  if (!IsPackable(q) || !IsPackable(k) || !IsPackable(args.v) || !IsPackable(args.o)) return false;
  bool has_code = false;
  return DispatchConfig(q.dim(2), args.v.dim(2),
                        [&](auto config) { has_code = HasCode<decltype(config)>(stream); }) &&
         has_code;
}

void AttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2),
                 [&](auto config) { Launch<decltype(config)>(args, stream); });
}

}  // namespace lacuna::cuda::hopper
