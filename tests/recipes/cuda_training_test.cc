// Whole training steps on CUDA: the CPU's numbers, the same bits twice, no hidden wait of the host.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/allocator.h"
#include "core/cuda/check.h"
#include "core/out_of_memory.h"
#include "core/stream.h"
#include "recipes/trainer/training_step.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"
#include "tests/support/random.h"

// The runtime's calls that make the host wait, counted whoever makes them; the linker prefers the
// program's symbols to the library's.
namespace {
int64_t waits_seen = 0;
template <class F>
F Real(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}
}  // namespace
extern "C" {
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  ++waits_seen;
  return Real<cudaError_t (*)(cudaStream_t)>("cudaStreamSynchronize")(stream);
}
cudaError_t cudaDeviceSynchronize() {
  ++waits_seen;
  return Real<cudaError_t (*)()>("cudaDeviceSynchronize")();
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  ++waits_seen;
  return Real<cudaError_t (*)(cudaEvent_t)>("cudaEventSynchronize")(event);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  ++waits_seen;
  return Real<cudaError_t (*)(void*, const void*, size_t, cudaMemcpyKind)>("cudaMemcpy")(
      to, from, bytes, kind);
}
cudaError_t cudaFree(void* data) {
  ++waits_seen;
  return Real<cudaError_t (*)(void*)>("cudaFree")(data);
}
}

namespace lacuna {
namespace {

constexpr int64_t kRows = 160, kVocabulary = 64;

struct Variant {
  AttentionKind attention;
  DType dtype;
};

BuiltModel Build(const Variant& variant, Device device) {
  ModelConfig model;
  model.attention = variant.attention;
  model.num_layers = 3;
  model.num_dense_layers = 1;
  model.width = 64;
  model.vocab_size = kVocabulary;
  model.num_heads = 8;
  model.num_groups = 2;
  model.head_dim_qk = 24;
  model.head_dim_v = 16;
  model.rotary_dims = 8;
  model.rope_theta = 100;
  model.dense_width = 96;
  model.init_std = 0.1;
  MoeConfig moe;
  moe.num_experts = 6;
  moe.experts_per_token = 2;
  moe.expert_width = 32;
  moe.num_shared = 1;
  moe.aux_loss = AuxLossScope::kMicroBatch;
  moe.aux_loss_coef = 0.01;
  const NsaConfig nsa{.block = 8,
                      .stride = 4,
                      .select_block = 16,
                      .num_selected = 4,
                      .num_init = 1,
                      .num_local = 2,
                      .window = 20};
  return BuildModel(model, nsa, moe, {}, variant.dtype, 7, true, device);
}

Batch MakeBatch(uint64_t seed) {
  Batch batch;
  batch.ids = test::RandomIds({kRows}, kVocabulary, seed);
  std::vector<int32_t> targets(batch.ids.data<int32_t>() + 1, batch.ids.data<int32_t>() + kRows);
  targets.push_back(-1);
  targets[30] = -1;
  batch.targets = Tensor::FromVector(targets, {kRows});
  batch.sequences = PackedSequences({0, 31, 32, kRows});
  batch.num_target_tokens = kRows - 2;
  batch.tokens_per_source = {kRows};
  batch.source_of_sample = {0};
  return batch;
}

struct Trained {
  std::vector<StepResult> steps;
  Tensor first_grad, master;
  std::map<std::string, double> metrics;
};

Trained Train(const Variant& variant, Device device, int steps, int64_t* waits = nullptr) {
  const auto comm = MakeSelfCommunicator();
  BuiltModel built = Build(variant, device);
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, *comm);
  TrainingStep step(built, optimizer, reducer, *comm, 0.5, kRows);
  Trained trained;
  for (int s = 0; s < steps; ++s) {
    Metrics metrics;
    const int64_t before = waits_seen;
    trained.steps.push_back(step.Run(
        {MakeBatch(static_cast<uint64_t>(2 * s)), MakeBatch(static_cast<uint64_t>(2 * s + 1))},
        1e-3, s == 0 ? &metrics : nullptr));
    if (waits != nullptr) *waits = waits_seen - before;
    if (s > 0) continue;
    trained.first_grad = built.parameters->grad().To(kCpu).Clone();
    for (const auto& [name, entry] : metrics.scalars()) trained.metrics[name] = entry.mean();
  }
  trained.master = built.parameters->master().To(kCpu).Clone();
  return trained;
}

double RelativeError(const Tensor& actual, const Tensor& expected) {
  const std::vector<double> a = actual.ToDoubles(), b = expected.ToDoubles();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

class CudaTraining : public testing::TestWithParam<Variant> {};

// Against the CPU in f64 from the same start; the CPU in the same dtype says what rounding costs.
TEST_P(CudaTraining, AStepIsTheCpus) {
  const Variant exact_variant{GetParam().attention, DType::kF64};
  const Trained exact = Train(exact_variant, kCpu, 1), cpu = Train(GetParam(), kCpu, 1),
                cuda = Train(GetParam(), CudaDevice(), 1);
  const double tiny = GetParam().dtype == DType::kF32 ? 1e-5 : 2e-3;
  EXPECT_NEAR(cuda.steps[0].loss, exact.steps[0].loss,
              3 * std::abs(cpu.steps[0].loss - exact.steps[0].loss) + tiny);
  EXPECT_LE(RelativeError(cuda.first_grad, exact.first_grad),
            3 * RelativeError(cpu.first_grad, exact.first_grad) + tiny);
  EXPECT_NEAR(cuda.steps[0].gradient_norm, cpu.steps[0].gradient_norm,
              (GetParam().dtype == DType::kF32 ? 1e-4 : 3e-2) * exact.steps[0].gradient_norm);
  ASSERT_EQ(cuda.metrics.size(), cpu.metrics.size());
  for (const auto& [name, value] : cpu.metrics)
    EXPECT_NEAR(cuda.metrics.at(name), value, 0.05 * std::abs(value) + 0.02) << name;
}

TEST_P(CudaTraining, KernelsOfAStepAreTheCpus) {
  const test::CudaParity parity;
  Train(GetParam(), CudaDevice(), 1);
}

TEST_P(CudaTraining, SameBitsTwiceAndTheLossFalls) {
  const Trained a = Train(GetParam(), CudaDevice(), 12), b = Train(GetParam(), CudaDevice(), 12);
  EXPECT_TRUE(test::SameBits(a.master, b.master));
  for (size_t s = 0; s < a.steps.size(); ++s) {
    EXPECT_EQ(a.steps[s].skipped, "");
    EXPECT_EQ(a.steps[s].loss, b.steps[s].loss);
  }
}

// What the host waits for in a step are its own numbers, at the end: the losses of two
// micro-batches, the gradients' squares and the clipping factor.
TEST_P(CudaTraining, TheHostWaitsForTheStepsNumbersOnly) {
  int64_t waits = 0;
  Train(GetParam(), CudaDevice(), 3, &waits);
  EXPECT_EQ(waits, 4);
}

INSTANTIATE_TEST_SUITE_P(All, CudaTraining,
                         testing::Values(Variant{AttentionKind::kFull, DType::kF32},
                                         Variant{AttentionKind::kFull, DType::kBF16},
                                         Variant{AttentionKind::kNsa, DType::kF32},
                                         Variant{AttentionKind::kNsa, DType::kBF16}),
                         [](const auto& info) {
                           return std::string(info.param.attention == AttentionKind::kNsa
                                                  ? "nsa_"
                                                  : "full_") +
                                  NameOf(info.param.dtype);
                         });

// A NaN in a weight: the step changes nothing and names the first tensor.
TEST(CudaTrainingStep, ABadStepIsSkippedBeforeTheWeightsChange) {
  const auto comm = MakeSelfCommunicator();
  BuiltModel built = Build({AttentionKind::kFull, DType::kBF16}, CudaDevice());
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, *comm);
  TrainingStep step(built, optimizer, reducer, *comm, 0.5, kRows);
  const auto& entry = built.parameters->entries()[5];
  const Tensor nan = Tensor::FromDoubles({NAN}, {1}, DType::kBF16);
  built.parameters->value().Slice(entry.offset, entry.offset + 1).CopyFrom(nan);
  const Tensor before = built.parameters->master().To(kCpu).Clone();
  const StepResult result = step.Run({MakeBatch(1)}, 1e-3, nullptr);
  EXPECT_NE(result.skipped.find("is not finite"), std::string::npos) << result.skipped;
  EXPECT_EQ(optimizer.num_updates(), 0);
  EXPECT_TRUE(test::SameBits(built.parameters->master().To(kCpu), before));
}

// Wherever a step ends for want of memory, the weights are those of before, and the next step has
// all of the memory again.
TEST(CudaTrainingStep, WithoutMemoryAStepLeavesNothingBehind) {
  const auto comm = MakeSelfCommunicator();
  const Device device = CudaDevice();
  BuiltModel built = Build({AttentionKind::kNsa, DType::kBF16}, device);
  AdamW optimizer(*built.parameters, {});
  GradientReducer reducer(*built.parameters, *comm);
  TrainingStep step(built, optimizer, reducer, *comm, 0.5, kRows);
  step.Run({MakeBatch(1)}, 1e-3, nullptr);
  const Tensor weights = built.parameters->master().To(kCpu).Clone();
  const int64_t held = CudaMemoryStats(device).in_use;
  ResetMemoryPeak(device);
  step.Run({MakeBatch(1)}, 0.0, nullptr);
  const MemoryStats stats = CudaMemoryStats(device);
  EXPECT_GT(stats.of(MemoryCategory::kActivations).peak, 0);
  EXPECT_GT(stats.of(MemoryCategory::kActivationGradients).peak, 0);
  const int64_t most = stats.peak - held;
  for (int part = 1; part < 10; ++part) {
    SetMemoryLimit(device, held + most * part / 10);
    EXPECT_THROW(step.Run({MakeBatch(1)}, 1e-3, nullptr), OutOfMemoryError) << part;
    EXPECT_TRUE(test::SameBits(built.parameters->master().To(kCpu), weights)) << part;
  }
  SetMemoryLimit(device, 0);
  EXPECT_EQ(step.Run({MakeBatch(1)}, 0.0, nullptr).skipped, "");
  EXPECT_EQ(CudaMemoryStats(device).in_use, held);
}

}  // namespace
}  // namespace lacuna
