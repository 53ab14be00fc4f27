#include "core/cuda/memory.h"
#include "core/ops/cuda/hopper/attention.h"
#include "core/ops/cuda/hopper/attention_launch.cuh"

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
using Keys = attention::RangeKeys<Config::kKeys>;

template <class Config>
void Launch(const AttentionFwdArgs& args, Stream stream) {
  const auto sizes = AttentionSizes::Of(args);
  const Workspace taken(sizeof(int), stream);
  attention::FwdParams<Keys<Config>> p = {};
  attention::SetUp<Config>(args, sizes, taken.As<int>(), stream, p);
  attention::SetOutputs(args, p);
  p.keys = {args.ranges.As<int32_t>()};
  attention::Start<Config>(attention::FwdKernel<Config, Keys<Config>>, p, stream);
}

}  // namespace

bool Supports(const AttentionFwdArgs& args, Stream stream) {
  if (!attention::SupportsShapes(args)) return false;
  bool has_code = false;
  return DispatchConfig(
             args.q.dim(2), args.v.dim(2),
             [&](auto config) {
               using Config = decltype(config);
               has_code = attention::HasCode<attention::FwdKernel<Config, Keys<Config>>>(stream);
             }) &&
         has_code;
}

void AttentionFwd(const AttentionFwdArgs& args, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2),
                 [&](auto config) { Launch<decltype(config)>(args, stream); });
}

}  // namespace lacuna::cuda::hopper
