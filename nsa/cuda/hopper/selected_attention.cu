#include "core/cuda/memory.h"
#include "core/ops/cuda/hopper/attention_launch.cuh"
#include "nsa/cuda/hopper/list_keys.cuh"
#include "nsa/cuda/hopper/selected_attention.h"

namespace lacuna::cuda::hopper {
namespace {

using attention::DqConfig, attention::DqKernel, attention::FwdConfig, attention::FwdKernel;

constexpr int kBlock = 64;
using Keys = ListKeys<kBlock>;

// Calls f with the configurations for these widths, forward and of dq; false where there are none.
template <class F>
bool DispatchConfig(int64_t dk, int64_t dv, F&& f) {
  if (dk == 192 && dv == 128) {
    f(FwdConfig<192, 128, kBlock, 3>{}, DqConfig<192, 128, 3>{});
  } else if (dk == 128 && dv == 128) {
    f(FwdConfig<128, 128, kBlock, 4>{}, DqConfig<128, 128, 4>{});
  } else {
    return false;
  }
  return true;
}

template <class Args>
bool SupportsCall(const Args& args, Stream stream) {
  if (args.select_block != kBlock || args.q.dim(1) / args.k.dim(1) < 8 ||
      !attention::SupportsShapes(args))
    return false;
  bool has_code = false;
  return DispatchConfig(args.q.dim(2), args.v.dim(2),
                        [&](auto config, auto) {
                          has_code = attention::HasCode<FwdKernel<decltype(config), Keys>>(stream);
                        }) &&
         has_code;
}

// The unions of a call's tiles, as long as the object lives.
template <class Config>
class Unions {
 public:
  template <class Args>
  Unions(const Args& args, const attention::WorkSizes& work, Stream stream)
      : sizes_{.sizes = work.sizes,
               .tile_tokens = work.tile_tokens,
               .warpgroup_tokens = attention::kWarpgroupRows / work.sizes.rep,
               .warpgroups = Config::kConsumers,
               .slots = work.slots,
               .places = static_cast<int>(args.blocks.dim(2)),
               .select_block = kBlock},
        counts_(sizes_.lists() * int64_t{sizeof(int)}, stream),
        unions_(sizes_.lists() * sizes_.capacity() * int64_t{sizeof(UnionBlock)}, stream),
        positions_(args.positions.template As<int32_t>()) {
    LaunchGrid(UnionListsKernel,
               dim3(static_cast<unsigned>((sizes_.lists() + kUnionWarps - 1) / kUnionWarps)),
               dim3(kUnionWarps * kWarp), UnionListsShared(sizes_), stream, sizes_,
               args.blocks.template As<int32_t>(), counts_.As<int>(), unions_.As<UnionBlock>());
  }
  Keys keys() const {
    return {.counts = counts_.As<int>(),
            .unions = unions_.As<UnionBlock>(),
            .positions = positions_,
            .capacity = sizes_.capacity(),
            .warpgroup_tokens = sizes_.warpgroup_tokens};
  }

 private:
  UnionListSizes sizes_;
  Workspace counts_, unions_;
  const int32_t* positions_;
};

}  // namespace

bool Supports(const SelectedAttentionFwdArgs& args, Stream stream) {
  if (args.o_sum.defined() &&
      !(attention::IsPackable(args.o_cmp) && attention::IsPackable(args.o_win) &&
        attention::IsPackable(args.o_sum)))
    return false;
  return SupportsCall(args, stream);
}
bool Supports(const SelectedAttentionBwdArgs& args, Stream stream) {
  return SupportsCall(args, stream) && attention::IsPackable(args.d_o) &&
         attention::IsPackable(args.dq) && attention::IsPackable(args.dk) &&
         attention::IsPackable(args.dv);
}

void SelectedAttentionFwd(const SelectedAttentionFwdArgs& args, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2), [&](auto config, auto) {
    using Config = decltype(config);
    const Workspace taken(sizeof(int), stream);
    attention::FwdParams<Keys> p = {};
    attention::SetUp<Config>(args, AttentionSizes::Of(args), taken.As<int>(), stream, p);
    attention::SetOutputs(args, p);
    if (args.o_sum.defined())
      p.gated = {args.gate.As<float>(), args.o_cmp.As<BFloat16>(), args.o_win.As<BFloat16>(),
                 args.o_sum.As<BFloat16>()};
    const Unions<Config> unions(args, p.work, stream);
    p.keys = unions.keys();
    attention::Start<Config>(FwdKernel<Config, Keys>, p, stream);
  });
}

void SelectedDq(const SelectedAttentionBwdArgs& args, const float* delta, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2), [&](auto, auto config) {
    using Config = decltype(config);
    const auto sizes = AttentionSizes::Of(args);
    const Workspace taken(sizeof(int), stream);
    attention::DqParams<Keys> p = {};
    attention::SetUp<Config>(args, sizes, taken.As<int>(), stream, p);
    attention::SetOutputs(args, sizes, delta, p);
    const Unions<Config> unions(args, p.work, stream);
    p.keys = unions.keys();
    attention::Start<Config>(DqKernel<Config, Keys>, p, stream);
  });
}

}  // namespace lacuna::cuda::hopper
