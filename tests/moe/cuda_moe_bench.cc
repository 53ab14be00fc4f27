// Speed of the mixture of experts' kernels on CUDA: products against a ceiling given in TFLOP/s,
// moved bytes against the bandwidth of a copy measured beside them.
//   cuda_moe_bench [N=16384] [C=2560] [E=72] [K=6] [F=1536] [ceiling=790]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <functional>

#include "core/stream.h"
#include "moe/expert_load.h"
#include "moe/grouped_matmul.h"
#include "moe/permute.h"
#include "moe/route.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

struct Sizes {
  int64_t rows, width, experts, chosen, hidden;
  double ceiling;
};

// Random values without the time that so many take on the host: a block of them, repeated.
Tensor Filled(Shape shape, DType dtype, uint64_t seed) {
  Tensor x = Tensor::Empty(shape, dtype, CudaDevice());
  const int64_t n = x.numel(), block = std::min<int64_t>(n, 1 << 20);
  const Tensor values = test::RandomTensor({block}, dtype, seed, 0.5).To(CudaDevice());
  for (int64_t at = 0; at < n; at += block) {
    const int64_t size = std::min(block, n - at);
    x.View(at, {size}).CopyFrom(values.Slice(0, size));
  }
  return x;
}

// Milliseconds of one call, in a run of many.
double Measure(const std::function<void()>& call) {
  const Stream stream = ComputeStream(CudaDevice());
  for (int i = 0; i < 3; ++i) call();
  Synchronize(stream);
  const auto start = std::chrono::steady_clock::now();
  constexpr int kCalls = 20;
  for (int i = 0; i < kCalls; ++i) call();
  Synchronize(stream);
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  return taken.count() / kCalls;
}

void Products(const Sizes& s, const Tensor& offsets, int64_t in, int64_t out) {
  const Stream stream = ComputeStream(CudaDevice());
  const int64_t routed = s.rows * s.chosen;
  const Tensor x = Filled({routed, in}, DType::kBF16, 1),
               dy = Filled({routed, out}, DType::kBF16, 2),
               w = Filled({s.experts, out, in}, DType::kBF16, 3);
  Tensor y = Tensor::EmptyLike(dy), dx = Tensor::EmptyLike(x),
         dw = Tensor::Zeros({s.experts, out, in}, DType::kF32, CudaDevice());
  const auto report = [&](const char* name, double ms) {
    const double rate = 2e-9 * static_cast<double>(routed) * static_cast<double>(in * out) / ms;
    fmt::print("{:<22}{:>6} -> {:<6}{:9.3f} ms {:8.1f} TFLOP/s {:6.1f} % of the ceiling\n", name,
               in, out, ms, rate, 100 * rate / s.ceiling);
  };
  report("grouped_matmul", Measure([&] {
           ops::GroupedMatMul(
               {.x = x.Ref(), .w = w.Ref(), .offsets = offsets.Ref(), .y = y.MutableRef()}, stream);
         }));
  report("grouped_matmul dx", Measure([&] {
           ops::GroupedMatMul({.x = dy.Ref(),
                               .w = w.Ref(),
                               .offsets = offsets.Ref(),
                               .y = dx.MutableRef(),
                               .transpose_w = false},
                              stream);
         }));
  report("grouped_matmul_dw", Measure([&] {
           ops::GroupedMatMulDw(
               {.dy = dy.Ref(), .x = x.Ref(), .offsets = offsets.Ref(), .dw = dw.MutableRef()},
               stream);
         }));
}

void Rows(const Sizes& s, const Tensor& ids, Tensor offsets) {
  const Stream stream = ComputeStream(CudaDevice());
  const int64_t routed = s.rows * s.chosen;
  Tensor position = Tensor::EmptyLike(ids), x = Filled({s.rows, s.width}, DType::kBF16, 1),
         there = Filled({routed, s.width}, DType::kBF16, 2), other = Tensor::EmptyLike(there),
         dw = Tensor::Empty({s.rows, s.chosen}, DType::kF32, CudaDevice());
  const Tensor w = Filled({s.rows, s.chosen}, DType::kF32, 3);
  const double token_bytes = static_cast<double>(x.bytes()),
               routed_bytes = static_cast<double>(there.bytes());
  const double copy_ms = Measure([&] { other.CopyFrom(there); }),
               ceiling = 2e-6 * routed_bytes / copy_ms;
  fmt::print("copy of {} rows {:.3f} ms {:.0f} GB/s\n", routed, copy_ms, ceiling);
  const auto report = [&](const char* name, double bytes, double ms) {
    const double rate = 1e-6 * bytes / ms;
    fmt::print("{:<38}{:9.3f} ms {:8.0f} GB/s {:9.1f} % of the copy\n", name, ms, rate,
               100 * rate / ceiling);
  };
  report(
      "sort_by_expert", 12.0 * static_cast<double>(routed), Measure([&] {
        ops::SortByExpert(
            {.ids = ids.Ref(), .offsets = offsets.MutableRef(), .position = position.MutableRef()},
            stream);
      }));
  report("permute_rows", token_bytes + routed_bytes, Measure([&] {
           ops::PermuteRows(
               {.x = x.Ref(), .position = position.Ref(), .w = {}, .y = there.MutableRef()},
               stream);
         }));
  report("permute_rows, weighted", token_bytes + routed_bytes, Measure([&] {
           ops::PermuteRows(
               {.x = x.Ref(), .position = position.Ref(), .w = w.Ref(), .y = there.MutableRef()},
               stream);
         }));
  report("unpermute_rows, weighted", token_bytes + routed_bytes, Measure([&] {
           ops::UnpermuteRows(
               {.x = there.Ref(), .position = position.Ref(), .w = w.Ref(), .y = x.MutableRef()},
               stream);
         }));
  report("unpermute_dw", token_bytes + routed_bytes, Measure([&] {
           ops::UnpermuteDw(
               {.dy = x.Ref(), .x = there.Ref(), .position = position.Ref(), .dw = dw.MutableRef()},
               stream);
         }));
}

void Router(const Sizes& s, Tensor ids) {
  const Stream stream = ComputeStream(CudaDevice());
  const Tensor logits = Filled({s.rows, s.experts}, DType::kF32, 1),
               dweights = Filled({s.rows, s.chosen}, DType::kF32, 2);
  Tensor scores = Tensor::EmptyLike(logits), dlogits = Tensor::EmptyLike(logits),
         lse = Tensor::Empty({s.rows}, DType::kF32, CudaDevice()),
         weights = Tensor::EmptyLike(dweights),
         counts = Tensor::Empty({1, s.experts}, DType::kF64, CudaDevice());
  const RouterKind kind = RouterKind::kSigmoid;
  const double ms = Measure([&] {
    ops::RouteScores({.logits = logits.Ref(),
                      .scores = scores.MutableRef(),
                      .lse = lse.MutableRef(),
                      .kind = kind},
                     stream);
    ops::ChooseExperts({.scores = scores.Ref(), .bias = {}, .ids = ids.MutableRef()}, stream);
    ops::RouteWeights({.scores = scores.Ref(),
                       .ids = ids.Ref(),
                       .weights = weights.MutableRef(),
                       .normalize = true,
                       .scale = 1},
                      stream);
    ops::CountChoices({.ids = ids.Ref(), .counts = counts.MutableRef()}, stream);
    ops::RouteBwd({.logits = logits.Ref(),
                   .scores = scores.Ref(),
                   .lse = lse.Ref(),
                   .ids = ids.Ref(),
                   .dweights = dweights.Ref(),
                   .load = {},
                   .dlogits = dlogits.MutableRef(),
                   .kind = kind,
                   .normalize = true,
                   .scale = 1},
                  stream);
  });
  fmt::print("router, its five kernels {:.3f} ms\n", ms);
}

void Run(const Sizes& s) {
  Tensor ids = test::RandomIds({s.rows, s.chosen}, static_cast<int32_t>(s.experts), 1)
                   .To(CudaDevice()),
         position = Tensor::EmptyLike(ids),
         offsets = Tensor::Empty({s.experts + 1}, DType::kI64, CudaDevice());
  ops::SortByExpert(
      {.ids = ids.Ref(), .offsets = offsets.MutableRef(), .position = position.MutableRef()},
      ComputeStream(CudaDevice()));
  fmt::print("{}: {} rows of {} to {} of {} experts of {}\n",
             NumCudaDevices() > 0 ? "CUDA device 0" : "no CUDA device", s.rows, s.width, s.chosen,
             s.experts, s.hidden);
  Products(s, offsets, s.width, 2 * s.hidden);
  Products(s, offsets, s.hidden, s.width);
  Rows(s, ids, offsets);
  Router(s, ids);
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t fallback) {
    return argc > i ? std::atoll(argv[i]) : fallback;
  };
  lacuna::Run({.rows = argument(1, 16384),
               .width = argument(2, 2560),
               .experts = argument(3, 72),
               .chosen = argument(4, 6),
               .hidden = argument(5, 1536),
               .ceiling = static_cast<double>(argument(6, 790))});
}
