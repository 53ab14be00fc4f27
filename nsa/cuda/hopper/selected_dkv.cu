#include "core/ops/cuda/hopper/attention_launch.cuh"
#include "nsa/cuda/hopper/chosen_rows.cuh"
#include "nsa/cuda/hopper/selected_attention.h"

namespace lacuna::cuda::hopper {
namespace {

template <int kDk, int kDv>
void Launch(const SelectedAttentionBwdArgs& args, const float* delta, const ChosenTokens& chosen,
            float* partial, Stream stream) {
  using Config = attention::DkvConfig<kDk, kDv>;
  using Rows = ChosenRows<kDk, kDv>;
  const auto p = attention::DkvParamsOf<Config>(args,
                                                Rows{.tokens = chosen.rows,
                                                     .starts = chosen.starts,
                                                     .num_blocks = chosen.num_blocks,
                                                     .of_list = chosen.of_list,
                                                     .chunks = chosen.chunks,
                                                     .positions = args.positions.As<int32_t>(),
                                                     .dk = args.dk.As<BFloat16>(),
                                                     .dv = args.dv.As<BFloat16>(),
                                                     .partial = partial,
                                                     .groups = static_cast<int>(args.k.dim(1))},
                                                delta);
  LaunchGrid(attention::DkvKernel<Config, Rows>, dim3(static_cast<unsigned>(chosen.num_chunks)),
             dim3(Config::kThreads), Config::kBytes + 1024, stream, p);
}

}  // namespace

void SelectedDkv(const SelectedAttentionBwdArgs& args, const float* delta,
                 const ChosenTokens& chosen, float* partial, Stream stream) {
  if (args.q.dim(2) == 192) {
    Launch<192, 128>(args, delta, chosen, partial, stream);
  } else {
    Launch<128, 128>(args, delta, chosen, partial, stream);
  }
}

}  // namespace lacuna::cuda::hopper
