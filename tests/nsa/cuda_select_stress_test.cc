// The choice of blocks gives the same bits in thousands of launches. A race that shows once in a
// hundred million tiles made two runs of a recipe part after 570 steps, which no test of a few
// launches sees. LACUNA_STRESS_SECONDS: longer than the default.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/content_hash.h"
#include "nsa/nsa_grid.h"
#include "nsa/select_blocks.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::CudaStream;

double Seconds() {
  const char* const text = std::getenv("LACUNA_STRESS_SECONDS");
  return text == nullptr ? 5 : std::atof(text);
}

TEST(CudaSelectStress, TheSameBitsInEveryLaunch) {
  const NsaConfig config;  // the paper's
  const NsaGrid grid(PackedSequences({0, 5000, 8192}).To(CudaDevice()), config);
  const int64_t tokens = 8192, heads = 64, groups = 4, dk = 192, batch = 200;
  const Tensor q = test::RandomTensor({tokens, heads, dk}, DType::kBF16, 1).To(CudaDevice()),
               k = test::RandomTensor({grid.num_compressed(), groups, dk}, DType::kBF16, 2)
                       .To(CudaDevice()),
               lse = test::RandomTensor({tokens, heads}, DType::kF32, 3).To(CudaDevice());
  Tensor blocks = Tensor::Empty({tokens, groups, config.num_selected}, DType::kI32, CudaDevice()),
         scores =
             Tensor::Empty({tokens, groups, grid.max_select_blocks}, DType::kF32, CudaDevice()),
         sums = Tensor::Empty({batch}, DType::kI64, CudaDevice());
  const auto start = std::chrono::steady_clock::now();
  int64_t launches = 0, others = 0, first = 0;
  while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <
         Seconds()) {
    sums.Zero();
    auto* const sum = static_cast<uint64_t*>(sums.MutableRef().data);
    for (int64_t i = 0; i < batch; ++i) {
      ops::SelectBlocks({.q = q.Ref(),
                         .k_cmp = k.Ref(),
                         .lse = lse.Ref(),
                         .ranges = grid.cmp_ranges.Ref(),
                         .positions = grid.positions.Ref(),
                         .cu_queries = grid.cu_seqlens.Ref(),
                         .cu_keys = grid.cu_cmp.Ref(),
                         .blocks = blocks.MutableRef(),
                         .scores = scores.MutableRef(),
                         .entropy = {},
                         .scale = 0.07,
                         .block = config.block,
                         .stride = config.stride,
                         .select_block = config.select_block,
                         .num_init = config.num_init,
                         .num_local = config.num_local},
                        CudaStream());
      AddContentHash(blocks.Ref(), sum + i, CudaStream());
      AddContentHash(scores.Ref(), sum + i, CudaStream());
    }
    const Tensor on_host = sums.To(kCpu);
    if (launches == 0) first = on_host.data<int64_t>()[0];
    for (int64_t i = 0; i < batch; ++i) others += on_host.data<int64_t>()[i] != first;
    launches += batch;
  }
  EXPECT_EQ(others, 0) << "of " << launches << " launches";
  std::printf("%lld launches, %lld with other bits\n", static_cast<long long>(launches),
              static_cast<long long>(others));
}

}  // namespace
}  // namespace lacuna
