// Speed of a mixture-of-experts layer, forward and backward, against the arithmetic of its matrix
// products and against one dense product of the same size.
//   moe_bench [threads=2] [N=4096] [C=256] [E=8] [K=2] [F=192] [shared=0]
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <vector>

#include "autograd/functions/linear.h"
#include "core/parallel.h"
#include "moe/moe_layer.h"
#include "nn/flat_parameters.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Times {
  double forward = 1e30, backward = 1e30;
};

// The best of several runs of f(tape, x) and its backward.
template <class F>
Times Measure(const Tensor& x, const Tensor& dy, F&& f) {
  Times best;
  for (int run = 0; run < 12; ++run) {
    Tape tape;
    const Variable in = tape.Leaf(x);
    const double start = Seconds();
    const Variable y = f(tape, in);
    const double middle = Seconds();
    tape.Backward({{y, dy}});
    best.forward = std::min(best.forward, middle - start);
    best.backward = std::min(best.backward, Seconds() - middle);
  }
  return best;
}

void Print(const char* name, const Times& t, double flops) {
  fmt::print(
      "{:<28} forward {:7.2f} ms {:6.1f} GF/s   backward {:7.2f} ms {:6.1f} GF/s   both {:6.1f} "
      "GF/s\n",
      name, t.forward * 1e3, flops / t.forward * 1e-9, t.backward * 1e3,
      2 * flops / t.backward * 1e-9, 3 * flops / (t.forward + t.backward) * 1e-9);
}

void Run(int64_t rows, int64_t width, const MoeConfig& config) {
  MoeLayer layer(width, config, 0.02, 0.02, DType::kF32);
  layer.SetName("mlp");
  FlatParameters parameters(layer, DType::kF32, 1);
  const PackedSequences sequences = PackedSequences::Single(rows);
  const Tensor x = test::RandomTensor({rows, width}, DType::kF32, 1),
               dy = test::RandomTensor({rows, width}, DType::kF32, 2);
  // of a row, forward
  const double expert = 6.0 * static_cast<double>(width * config.expert_width);
  const double gate = 2.0 * static_cast<double>(width * config.num_experts);
  const double flops =
      static_cast<double>(rows) *
      (static_cast<double>(config.experts_per_token + config.num_shared) * expert + gate);
  Print("layer",
        Measure(x, dy,
                [&](Tape& tape, const Variable& in) {
                  ForwardContext ctx{.tape = tape, .sequences = sequences};
                  return layer.Forward(ctx, in, {});
                }),
        flops);
  // The ceiling: a dense product of the same arithmetic.
  const int64_t columns = static_cast<int64_t>(flops / (2.0 * static_cast<double>(rows * width)));
  Parameter dense;
  dense.shape = {columns, width};
  dense.value = test::RandomTensor(dense.shape, DType::kF32, 3);
  dense.grad = Tensor::Zeros(dense.shape, DType::kF32);
  const Tensor wide = test::RandomTensor({rows, columns}, DType::kF32, 4);
  Print("one dense product",
        Measure(x, wide, [&](Tape& tape, const Variable& in) { return Linear(tape, in, dense); }),
        flops);
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  const auto argument = [&](int i, int64_t fallback) {
    return argc > i ? std::atoll(argv[i]) : fallback;
  };
  lacuna::SetNumThreads(static_cast<int>(argument(1, 2)));
  lacuna::Run(argument(2, 4096), argument(3, 256),
              {.num_experts = argument(4, 8),
               .experts_per_token = argument(5, 2),
               .expert_width = argument(6, 192),
               .num_shared = argument(7, 0)});
}
