#include <bit>

#include "core/cuda/memory.h"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/cuda/hopper/attention_fwd.cuh"
#include "core/ops/cuda/hopper/attention_launch.cuh"
#include "nsa/cuda/hopper/list_keys.cuh"
#include "nsa/cuda/hopper/selected_attention.h"

namespace lacuna::cuda::hopper {
namespace {

constexpr int kBlock = 64;

// Calls f with the configuration for these widths; false where there is none.
template <class F>
bool DispatchConfig(int64_t dk, int64_t dv, F&& f) {
  if (dk == 192 && dv == 128) {
    f(attention::FwdConfig<192, 128, kBlock, 3>{});
  } else if (dk == 128 && dv == 128) {
    f(attention::FwdConfig<128, 128, kBlock, 4>{});
  } else {
    return false;
  }
  return true;
}

template <class Config>
void Launch(const SelectedAttentionFwdArgs& args, Stream stream) {
  const auto sizes = AttentionSizes::Of(args);
  attention::FwdParams<ListKeys<kBlock>> p = {};
  const Workspace taken(sizeof(int), stream);
  attention::SetUp<Config>(args, sizes, taken.As<int>(), stream, p);
  const UnionListSizes u = {.sizes = sizes,
                            .tile_tokens = p.work.tile_tokens,
                            .warpgroup_tokens = attention::kWarpgroupRows / sizes.rep,
                            .warpgroups = Config::kConsumers,
                            .slots = p.work.slots,
                            .places = static_cast<int>(args.blocks.dim(2)),
                            .select_block = kBlock};
  const Workspace counts(u.lists() * int64_t{sizeof(int)}, stream),
      unions(u.lists() * u.capacity() * int64_t{sizeof(UnionBlock)}, stream);
  LaunchGrid(UnionListsKernel,
             dim3(static_cast<unsigned>((u.lists() + kUnionWarps - 1) / kUnionWarps)),
             dim3(kUnionWarps * kWarp), UnionListsShared(u), stream, u, args.blocks.As<int32_t>(),
             counts.As<int>(), unions.As<UnionBlock>());
  p.keys = {.counts = counts.As<int>(),
            .unions = unions.As<UnionBlock>(),
            .positions = args.positions.As<int32_t>(),
            .capacity = u.capacity(),
            .warpgroup_tokens = u.warpgroup_tokens};
  attention::Start<Config>(p, sizes, stream);
}

}  // namespace

bool Supports(const SelectedAttentionFwdArgs& args, Stream stream) {
  const int64_t rep = args.q.dim(1) / args.k.dim(1);
  if (args.select_block != kBlock || rep < 8 || !attention::SupportsShapes(args)) return false;
  bool has_code = false;
  return DispatchConfig(args.q.dim(2), args.v.dim(2),
                        [&](auto config) {
                          has_code = attention::HasCode<decltype(config), ListKeys<kBlock>>(stream);
                        }) &&
         has_code;
}

void SelectedAttentionFwd(const SelectedAttentionFwdArgs& args, Stream stream) {
  DispatchConfig(args.q.dim(2), args.v.dim(2),
                 [&](auto config) { Launch<decltype(config)>(args, stream); });
}

}  // namespace lacuna::cuda::hopper
