// Speed of causal attention on CUDA, by our own kernels and by cuDNN where this build has it.
//   cuda_attention_bench [N=8192] [H=64] [G=4] [Dk=192] [Dv=128] [documents=1] [window=0]
// FLOPs counted: 2 H pairs (Dk + Dv) forward, 2 H pairs (3 Dk + 2 Dv) backward; pairs of a query
// and a key that it sees.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>

#include "autograd/functions/attention.h"
#include "core/ops/cuda/attention_cudnn.h"
#include "core/stream.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

struct Sizes {
  int64_t rows, heads, groups, dk, dv, documents, window;
};

// Random values without the time that so many take on the host: a block of them, repeated.
Tensor Filled(Shape shape, uint64_t seed) {
  Tensor x = Tensor::Empty(shape, DType::kBF16, CudaDevice());
  const int64_t n = x.numel(), block = std::min<int64_t>(n, (1 << 20) - 7);
  const Tensor values = test::RandomTensor({block}, DType::kBF16, seed).To(CudaDevice());
  for (int64_t at = 0; at < n; at += block) {
    const int64_t size = std::min(block, n - at);
    x.View(at, {size}).CopyFrom(values.Slice(0, size));
  }
  return x;
}

// Milliseconds of one call: the median of runs of a few.
double Measure(const std::function<void()>& call) {
  const Stream stream = ComputeStream(CudaDevice());
  for (int i = 0; i < 3; ++i) call();
  std::vector<double> runs;
  for (int run = 0; run < 7; ++run) {
    Synchronize(stream);
    const auto start = std::chrono::steady_clock::now();
    constexpr int kCalls = 5;
    for (int i = 0; i < kCalls; ++i) call();
    Synchronize(stream);
    const std::chrono::duration<double, std::milli> taken =
        std::chrono::steady_clock::now() - start;
    runs.push_back(taken.count() / kCalls);
  }
  std::ranges::sort(runs);
  return runs[runs.size() / 2];
}

std::vector<int32_t> Documents(const Sizes& s) {
  std::vector<int32_t> cu;
  for (int64_t d = 0; d <= s.documents; ++d)
    cu.push_back(static_cast<int32_t>(s.rows * d / s.documents));
  return cu;
}

double Pairs(const std::vector<int32_t>& cu, int64_t window) {
  double pairs = 0;
  for (size_t d = 0; d + 1 < cu.size(); ++d) {
    for (int64_t t = 0; t < cu[d + 1] - cu[d]; ++t)
      pairs += static_cast<double>(window > 0 ? std::min(t + 1, window) : t + 1);
  }
  return pairs;
}

void Report(const char* name, double ms, double flops, const std::string& note) {
  fmt::print("{:<14}{:9.3f} ms {:8.1f} TFLOP/s  {}\n", name, ms, 1e-9 * flops / ms, note);
}

#ifdef LACUNA_WITH_CUDNN
template <class Args>
std::string HowCudnn(const Args& args, Stream stream) {
  const cuda::CudnnPlan plan = cuda::CudnnPlanOf(args, stream);
  if (!plan.usable) return "not for cuDNN: our own kernel";
  return fmt::format("{}, {} turns, workspace {:.1f} MiB",
                     plan.deterministic ? "deterministic" : "not deterministic", plan.turns,
                     static_cast<double>(plan.workspace_bytes) / (1 << 20));
}
#else
template <class Args>
std::string HowCudnn(const Args&, Stream) {
  return "a build without cuDNN: our own kernel";
}
#endif

void Run(const Sizes& s) {
  const Stream stream = ComputeStream(CudaDevice());
  const std::vector<int32_t> cu = Documents(s);
  const AttentionRanges ranges = CausalRanges(PackedSequences(cu).To(CudaDevice()), s.window);
  const Tensor q = Filled({s.rows, s.heads, s.dk}, 1), k = Filled({s.rows, s.groups, s.dk}, 2),
               v = Filled({s.rows, s.groups, s.dv}, 3), d_o = Filled({s.rows, s.heads, s.dv}, 4);
  Tensor o = Tensor::EmptyLike(d_o), dq = Tensor::EmptyLike(q), dk = Tensor::EmptyLike(k),
         dv = Tensor::EmptyLike(v),
         lse = Tensor::Empty({s.rows, s.heads}, DType::kF32, CudaDevice());
  AttentionFwdArgs forward{.q = q.Ref(),
                           .k = k.Ref(),
                           .v = v.Ref(),
                           .ranges = ranges.ranges.Ref(),
                           .cu_queries = ranges.cu_queries.Ref(),
                           .cu_keys = ranges.cu_keys.Ref(),
                           .o = o.MutableRef(),
                           .lse = lse.MutableRef(),
                           .scale = 1 / std::sqrt(static_cast<double>(s.dk)),
                           .causal = ranges.causal};
  AttentionBwdArgs backward{.q = q.Ref(),
                            .k = k.Ref(),
                            .v = v.Ref(),
                            .ranges = ranges.ranges.Ref(),
                            .cu_queries = ranges.cu_queries.Ref(),
                            .cu_keys = ranges.cu_keys.Ref(),
                            .o = o.Ref(),
                            .lse = lse.Ref(),
                            .d_o = d_o.Ref(),
                            .dq = dq.MutableRef(),
                            .dk = dk.MutableRef(),
                            .dv = dv.MutableRef(),
                            .scale = forward.scale,
                            .causal = ranges.causal};
  const double products = 2 * static_cast<double>(s.heads) * Pairs(cu, s.window),
               forward_flops = products * static_cast<double>(s.dk + s.dv),
               backward_flops = products * static_cast<double>(3 * s.dk + 2 * s.dv);
  fmt::print("{} tokens in {} documents, {} heads in {} groups, Dk {}, Dv {}, window {}, bf16\n",
             s.rows, s.documents, s.heads, s.groups, s.dk, s.dv, s.window);
  const auto report_forward = [&](const char* name, const auto& run, const std::string& note) {
    Report(name, Measure([&] { run(forward, stream); }), forward_flops, note);
  };
  const auto report_backward = [&](const char* name, const std::string& note) {
    Report(name, Measure([&] { ops::AttentionBwd(backward, stream); }), backward_flops, note);
  };
#ifdef LACUNA_WITH_CUDNN
  if (cuda::CudnnPlanOf(forward, stream).usable)
    report_forward("cuDNN fwd", cuda::CudnnAttentionFwd, HowCudnn(forward, stream));
#endif
  report_backward("cuDNN bwd", HowCudnn(backward, stream));
  // Without what is known of the ranges, so that cuDNN is not asked.
  forward.causal = {};
  backward.causal = {};
  report_forward("own fwd", ops::AttentionFwd, "");
  report_backward("own bwd", "");
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t fallback) {
    return argc > i ? std::atoll(argv[i]) : fallback;
  };
  lacuna::Run({.rows = argument(1, 8192),
               .heads = argument(2, 64),
               .groups = argument(3, 4),
               .dk = argument(4, 192),
               .dv = argument(5, 128),
               .documents = argument(6, 1),
               .window = argument(7, 0)});
}
