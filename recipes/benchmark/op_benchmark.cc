#include "recipes/benchmark/op_benchmark.h"

#include "autograd/functions/linear_cross_entropy.h"
#include "core/stream.h"
#include "recipes/benchmark/benchmark_inputs.h"

namespace lacuna {
namespace {

struct Head {
  Tensor x, targets;
  Parameter weight;
};

Head MakeHead(const BenchSizes& sizes, int64_t tokens, Device device, uint64_t seed) {
  const Shape shape = {sizes.model.vocab_size, sizes.model.width};
  Head head{.x = NormalTensor({tokens, shape[1]}, DType::kBF16, device, seed),
            .targets = UniformIds(tokens, shape[0], seed, device),
            .weight = {}};
  head.weight.name = "lm_head.weight";
  head.weight.shape = shape;
  head.weight.value = NormalTensor(shape, DType::kBF16, device, 100, sizes.model.init_std);
  head.weight.grad = Tensor::Zeros(shape, DType::kF32, device);
  return head;
}

void RunHead(Head& head, Stream stream) {
  Tape tape(Tape::Mode::kRecord, stream);
  const Variable x = tape.Leaf(head.x);
  const LinearCrossEntropyResult result = LinearCrossEntropy(
      tape, x, head.weight, head.targets, 1.0 / static_cast<double>(head.x.dim(0)));
  tape.BackwardFrom(result.loss);
}

void AddHeadRow(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const int64_t n = sizes.tokens;
  const double weights = static_cast<double>(sizes.model.width * sizes.model.vocab_size);
  rows.Flops(
      "linear_cross_entropy", n, 6 * static_cast<double>(n) * weights, "6NCV", 6 * weights,
      [=](uint64_t seed) { return MakeHead(sizes, n, device, seed); },
      [stream = ComputeStream(device)](Head& head) { RunHead(head, stream); });
}

}  // namespace

std::vector<BenchRow> OpRows(const BenchSizes& sizes, Device device) {
  BenchRows rows;
  AddCoreRows(sizes, device, rows);
  AddHeadRow(sizes, device, rows);
  AddMoeRows(sizes, device, rows);
  AddNsaRows(sizes, device, rows);
  AddAttentionRows(sizes, device, rows);
  return std::move(rows.rows);
}

LossMemory MeasureLossMemory(const BenchSizes& sizes, int64_t tokens, Device device) {
  const bool on_cpu = device == kCpu;
  const auto stats = [&] { return on_cpu ? CpuMemoryStats() : CudaMemoryStats(device); };
  Head head = MakeHead(sizes, tokens, device, 1);
  if (on_cpu) {
    ResetCpuMemoryPeak();
  } else {
    ResetCudaMemoryPeak(device);
  }
  const int64_t before = stats().in_use;
  RunHead(head, ComputeStream(device));
  Synchronize(ComputeStream(device));
  return {.tokens = tokens,
          .extra_bytes = stats().peak - before,
          .logits_bytes = tokens * sizes.model.vocab_size * SizeOf(DType::kBF16)};
}

}  // namespace lacuna
