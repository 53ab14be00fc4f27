#include "core/ops/cuda/hopper/attention.h"
#include "core/ops/cuda/hopper/attention_launch.cuh"
#include "core/ops/cuda/hopper/range_rows.cuh"
#include "core/stream.h"

namespace lacuna::cuda::hopper {
namespace {

using attention::DkvConfig, attention::DkvKernel, attention::RangeRows;

// Calls f with the configuration and the rows for these widths; false where there are none.
template <class F>
bool DispatchConfig(int64_t dk, int64_t dv, F&& f) {
  if (dk == 192 && dv == 128) {
    f(DkvConfig<192, 128>{}, RangeRows<192, 128>{});
  } else if (dk == 128 && dv == 128) {
    f(DkvConfig<128, 128>{}, RangeRows<128, 128>{});
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool SupportsDkv(const AttentionBwdArgs& args, Stream stream) {
  if (!attention::SupportsShapes(args) || !attention::IsPackable(args.d_o) ||
      !attention::IsPackable(args.dk) || !attention::IsPackable(args.dv))
    return false;
  bool has_code = false;
  return DispatchConfig(
             args.q.dim(2), args.v.dim(2),
             [&](auto config, auto rows) {
               has_code = attention::HasCode<DkvKernel<decltype(config), decltype(rows)>>(stream);
             }) &&
         has_code;
}

bool SupportsBackward(const ops::CausalSizes& sizes, Device device) {
  bool has_code = false;
  return sizes.dtype == DType::kBF16 && attention::IsGroupSize(sizes.heads / sizes.groups) &&
         DispatchConfig(sizes.dk, sizes.dv,
                        [&](auto config, auto rows) {
                          has_code =
                              attention::HasCode<DkvKernel<decltype(config), decltype(rows)>>(
                                  lacuna::ComputeStream(device));
                        }) &&
         has_code;
}

void AttentionDkv(const AttentionBwdArgs& args, const float* delta, int parts, float* partial,
                  Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2), [&](auto config, auto rows) {
    using Config = decltype(config);
    using Rows = decltype(rows);
    const auto p = attention::DkvParamsOf<Config>(args,
                                                  Rows{.ranges = args.ranges.template As<int32_t>(),
                                                       .dk = args.dk.template As<BFloat16>(),
                                                       .dv = args.dv.template As<BFloat16>(),
                                                       .partial = partial,
                                                       .groups = static_cast<int>(args.k.dim(1))},
                                                  delta);
    const dim3 grid(
        static_cast<unsigned>(NumSlots(p.sizes.keys, 1, Config::kKeys, p.sizes.documents)),
        static_cast<unsigned>(p.sizes.groups), static_cast<unsigned>(parts));
    LaunchGrid(DkvKernel<Config, Rows>, grid, dim3(Config::kThreads), Config::kBytes + 1024, stream,
               p);
  });
}

}  // namespace lacuna::cuda::hopper
