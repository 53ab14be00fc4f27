#include "core/ops/cuda/hopper/attention_launch.cuh"
#include "nsa/cuda/hopper/selected_attention.h"
#include "nsa/cuda/hopper/selected_dkv.cuh"

namespace lacuna::cuda::hopper {
namespace {

template <class Config>
void Launch(const SelectedAttentionBwdArgs& args, const float* delta, const ChosenTokens& chosen,
            float* partial, Stream stream) {
  const auto sizes = AttentionSizes::Of(args);
  const DkvParams p = {.q = attention::HeadsMap(args.q, sizes.rep, 1),
                       .k = attention::HeadsMap(args.k, 1, Config::kKeys),
                       .v = attention::HeadsMap(args.v, 1, Config::kKeys),
                       .d_o = attention::HeadsMap(args.d_o, sizes.rep, 1),
                       .sizes = sizes,
                       .positions = args.positions.As<int32_t>(),
                       .rows = chosen.rows,
                       .starts = chosen.starts,
                       .num_blocks = chosen.num_blocks,
                       .chunk_rows = chosen.chunk_rows,
                       .lse = args.lse.As<float>(),
                       .delta = delta,
                       .partial = partial,
                       .scale = static_cast<float>(args.scale),
                       .factor = static_cast<float>(args.scale) * kLog2E,
                       .delays = RandomDelays()};
  LaunchGrid(DkvKernel<Config>, dim3(static_cast<unsigned>(chosen.chunks)), dim3(Config::kThreads),
             Config::kBytes + 1024, stream, p);
}

}  // namespace

void SelectedDkv(const SelectedAttentionBwdArgs& args, const float* delta,
                 const ChosenTokens& chosen, float* partial, Stream stream) {
  if (args.q.dim(2) == 192) {
    Launch<DkvConfig<192, 128, 6>>(args, delta, chosen, partial, stream);
  } else {
    Launch<DkvConfig<128, 128, 6>>(args, delta, chosen, partial, stream);
  }
}

}  // namespace lacuna::cuda::hopper
