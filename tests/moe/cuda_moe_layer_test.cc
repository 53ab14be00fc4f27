// A whole mixture-of-experts layer on CUDA: every kernel it calls against the CPU's, the layer
// against the same layer on the CPU, and that the host never waits.
#include <gtest/gtest.h>

#include "core/cuda/graph.h"
#include "tests/moe/moe_fixture.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"

namespace lacuna {
namespace {

using test::Close;
using test::MoeFixture;
using test::RandomTensor;
using test::SameBits;

constexpr int64_t kWidth = 48, kRows = 96, kSamples = 4;
const char* const kName = "layers.3.mlp";

MoeConfig Config(RouterKind router, AuxLossScope scope) {
  return {.num_experts = 9,
          .experts_per_token = 3,
          .expert_width = 40,
          .num_shared = 1,
          .router = router,
          .routed_scale = 1.5,
          .bias_update_rate = 0.125,
          .aux_loss = scope,
          .aux_loss_coef = scope == AuxLossScope::kNone ? 0.0 : 0.3,
          .z_loss_coef = 0.01};
}

struct Outcome {
  std::vector<Tensor> outputs;  // y, dx, parameter gradients, counts, bias after its update
  Metrics metrics;
  int64_t host_waits = 0;  // while the step ran
};

// Two micro-batches and the update of the bias.
Outcome RunOn(Device device, const MoeConfig& config, DType dtype, bool recompute = false) {
  MoeFixture f(kWidth, config, dtype, 1, device);
  Outcome run;
  std::vector<Tensor> inputs;
  for (uint64_t seed = 1; seed <= 4; ++seed)
    inputs.push_back(RandomTensor({kRows, kWidth}, dtype, seed).To(device));
  const int64_t waits = NumHostWaits();
  for (size_t i = 0; i < 2; ++i) {
    run.outputs = f.Step(inputs[2 * i], inputs[2 * i + 1],
                         {.metrics = &run.metrics,
                          .rows_per_sample = kRows / kSamples,
                          .share = 0.5,
                          .recompute = recompute});
  }
  run.outputs.push_back(f.flat().grad());
  run.outputs.push_back(f.layer().step_counts().Clone());
  f.layer().UpdateBias();
  f.layer().ResetCounts();
  run.host_waits = NumHostWaits() - waits;
  if (config.router == RouterKind::kSigmoid) run.outputs.push_back(f.Bias());
  for (Tensor& output : run.outputs) output = output.To(kCpu).Clone();
  run.metrics.Collect();
  return run;
}

struct Case {
  RouterKind router;
  AuxLossScope scope;
  DType dtype;
};
class CudaMoeLayer : public testing::TestWithParam<Case> {
 protected:
  MoeConfig config() const { return Config(GetParam().router, GetParam().scope); }
};
INSTANTIATE_TEST_SUITE_P(
    Configs, CudaMoeLayer,
    testing::Values(Case{RouterKind::kSigmoid, AuxLossScope::kNone, DType::kF32},
                    Case{RouterKind::kSigmoid, AuxLossScope::kSequence, DType::kF32},
                    Case{RouterKind::kSoftmax, AuxLossScope::kMicroBatch, DType::kF32},
                    Case{RouterKind::kSoftmax, AuxLossScope::kGlobalBatch, DType::kF32},
                    Case{RouterKind::kSigmoid, AuxLossScope::kSequence, DType::kBF16},
                    Case{RouterKind::kSoftmax, AuxLossScope::kGlobalBatch, DType::kBF16}));
class CudaMoeLayerF32 : public CudaMoeLayer {};
INSTANTIATE_TEST_SUITE_P(
    Configs, CudaMoeLayerF32,
    testing::Values(Case{RouterKind::kSigmoid, AuxLossScope::kNone, DType::kF32},
                    Case{RouterKind::kSigmoid, AuxLossScope::kSequence, DType::kF32},
                    Case{RouterKind::kSoftmax, AuxLossScope::kMicroBatch, DType::kF32},
                    Case{RouterKind::kSoftmax, AuxLossScope::kGlobalBatch, DType::kF32}));

TEST_P(CudaMoeLayer, EveryKernelEqualsTheCpu) {
  const test::CudaParity parity;
  RunOn(CudaDevice(), config(), GetParam().dtype);
}

TEST_P(CudaMoeLayer, TheSameBitsTwiceAndWithRecompute) {
  const Outcome a = RunOn(CudaDevice(), config(), GetParam().dtype),
                b = RunOn(CudaDevice(), config(), GetParam().dtype),
                recomputed = RunOn(CudaDevice(), config(), GetParam().dtype, /*recompute=*/true);
  for (size_t i = 0; i < a.outputs.size(); ++i) {
    EXPECT_TRUE(SameBits(a.outputs[i], b.outputs[i])) << i;
    EXPECT_TRUE(SameBits(a.outputs[i], recomputed.outputs[i])) << i;
  }
  EXPECT_EQ(a.metrics.Flatten(), recomputed.metrics.Flatten());
}

TEST_P(CudaMoeLayer, TheHostNeverWaits) {
  RunOn(CudaDevice(), config(), GetParam().dtype);  // loads the kernels
  EXPECT_EQ(RunOn(CudaDevice(), config(), GetParam().dtype).host_waits, 0);
}

// Outputs, gradients, counts, bias and metrics; in f32, where both make the same choices.
TEST_P(CudaMoeLayerF32, EqualsTheLayerOnTheCpu) {
  const Outcome ours = RunOn(CudaDevice(), config(), DType::kF32),
                expected = RunOn(kCpu, config(), DType::kF32);
  ASSERT_EQ(ours.outputs.size(), expected.outputs.size());
  for (size_t i = 0; i < ours.outputs.size(); ++i)
    EXPECT_TRUE(Close(ours.outputs[i], expected.outputs[i], test::Tolerance(DType::kF32))) << i;
  EXPECT_EQ(ours.metrics.vectors(), expected.metrics.vectors());
  ASSERT_EQ(ours.metrics.scalars().size(), expected.metrics.scalars().size());
  for (const auto& [name, entry] : expected.metrics.scalars()) {
    const Metrics::Entry& other = ours.metrics.scalars().at(name);
    EXPECT_NEAR(other.mean(), entry.mean(), 1e-5 * std::max(1.0, std::abs(entry.mean()))) << name;
    EXPECT_EQ(other.weight, entry.weight) << name;
  }
  EXPECT_EQ(expected.metrics.scalars().count(std::string(kName) + ".aux_loss"),
            config().aux_loss == AuxLossScope::kNone ? 0u : 1u);
}

// A forward pass alone, as of a decoding step: one row, and none.
TEST(CudaMoeLayerInference, OneRowAndNone) {
  const MoeConfig config = Config(RouterKind::kSigmoid, AuxLossScope::kNone);
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    MoeFixture f(kWidth, config, dtype, 1, CudaDevice());
    const test::CudaParity parity;
    for (const int64_t rows : {1, 0}) {
      Metrics metrics;
      const Tensor y = f.Infer(RandomTensor({rows, kWidth}, dtype, 1).To(CudaDevice()), &metrics);
      EXPECT_EQ(y.shape(), (Shape{rows, kWidth}));
      metrics.Collect();
      EXPECT_EQ(metrics.scalars().at(std::string(kName) + ".max_load").weight, rows == 0 ? 0 : 1);
    }
  }
}

// Rows of experts are counted on the device: one graph serves every routing.
TEST(CudaMoeLayerGraph, ReplaysHaveTheBitsOfTheCalls) {
  struct Step {
    explicit Step(DType dtype)
        : layer(kWidth, Config(RouterKind::kSigmoid, AuxLossScope::kSequence), dtype, 1,
                CudaDevice()),
          x(Tensor::Empty({kRows, kWidth}, dtype, CudaDevice())),
          dy(RandomTensor({kRows, kWidth}, dtype, 9).To(CudaDevice())),
          y(Tensor::EmptyLike(x)),
          dx(Tensor::EmptyLike(x)) {}
    void Run() {
      layer.flat().ZeroGrad();
      const std::vector<Tensor> out = layer.Step(x, dy, {.rows_per_sample = kRows / kSamples});
      y.CopyFrom(out[0]);
      dx.CopyFrom(out[1]);
    }
    MoeFixture layer;
    Tensor x, dy, y, dx;
  };
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    Step called(dtype), captured(dtype);
    captured.x.CopyFrom(RandomTensor({kRows, kWidth}, dtype, 1));
    captured.Run();  // what is prepared once is prepared
    const cuda::CapturedWork graph = cuda::Capture(test::CudaStream(), [&] { captured.Run(); });
    for (const uint64_t seed : {2, 3, 4}) {
      for (Step* step : {&called, &captured})
        step->x.CopyFrom(RandomTensor({kRows, kWidth}, dtype, seed));
      called.Run();
      graph.Replay(test::CudaStream());
      EXPECT_TRUE(SameBits(called.y.To(kCpu), captured.y.To(kCpu))) << seed;
      EXPECT_TRUE(SameBits(called.dx.To(kCpu), captured.dx.To(kCpu))) << seed;
      EXPECT_TRUE(
          SameBits(called.layer.flat().grad().To(kCpu), captured.layer.flat().grad().To(kCpu)))
          << seed;
    }
  }
}

// The reducer gets the counts where the layer is.
TEST(CudaMoeLayerReducer, SeesCountsOnTheDevice) {
  MoeFixture f(kWidth, Config(RouterKind::kSoftmax, AuxLossScope::kGlobalBatch), DType::kF32, 1,
               CudaDevice());
  int calls = 0;
  f.layer().set_count_reducer([&](Tensor& counts) {
    ++calls;
    EXPECT_EQ(counts.device(), CudaDevice());
    double sum = 0;
    for (const double c : counts.ToDoubles()) sum += c;
    EXPECT_EQ(sum, 3.0 * kRows);
  });
  const Tensor x = RandomTensor({kRows, kWidth}, DType::kF32, 1).To(CudaDevice());
  f.Step(x, x);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace lacuna
