#include "core/cuda/memory.h"
#include "core/ops/cuda/hopper/attention.h"
#include "core/ops/cuda/hopper/attention_launch.cuh"

namespace lacuna::cuda::hopper {
namespace {

using attention::DqConfig, attention::DqKernel;

// Calls f with the configuration for these widths; false where there is none.
template <class F>
bool DispatchConfig(int64_t dk, int64_t dv, F&& f) {
  if (dk == 192 && dv == 128) {
    f(DqConfig<192, 128, 3>{});
  } else if (dk == 128 && dv == 128) {
    f(DqConfig<128, 128, 4>{});
  } else {
    return false;
  }
  return true;
}

template <class Config>
using Keys = attention::RangeKeys<Config::kKeys>;

}  // namespace

bool SupportsDq(const AttentionBwdArgs& args, Stream stream) {
  if (!attention::SupportsShapes(args) || !attention::IsPackable(args.d_o) ||
      !attention::IsPackable(args.dq))
    return false;
  bool has_code = false;
  return DispatchConfig(args.q.dim(2), args.v.dim(2),
                        [&](auto config) {
                          using Config = decltype(config);
                          has_code = attention::HasCode<DqKernel<Config, Keys<Config>>>(stream);
                        }) &&
         has_code;
}

void AttentionDq(const AttentionBwdArgs& args, const float* delta, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2), [&](auto config) {
    using Config = decltype(config);
    const auto sizes = AttentionSizes::Of(args);
    const Workspace taken(sizeof(int), stream);
    attention::DqParams<Keys<Config>> p = {};
    attention::SetUp<Config>(args, sizes, taken.As<int>(), stream, p);
    attention::SetOutputs(args, sizes, delta, p);
    p.keys = {args.ranges.As<int32_t>()};
    attention::Start<Config>(DqKernel<Config, Keys<Config>>, p, stream);
  });
}

}  // namespace lacuna::cuda::hopper
