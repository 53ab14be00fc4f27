// The layer against obvious loops in f64, its gradients, and the identities that hold whatever the
// numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/moe/moe_fixture.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"

namespace lacuna {
namespace {

using test::Close;
using test::MoeFixture;
using test::NaiveResult;
using test::RandomTensor;
using test::SameBits;
using test::WithinNaiveError;

constexpr int64_t kWidth = 10;

double Exact(double v) {
  return v;
}
double RoundTo(DType dtype, double v) {
  if (dtype == DType::kF64) return v;
  const float single = static_cast<float>(v);
  return static_cast<double>(dtype == DType::kF32 ? single : static_cast<float>(BFloat16(single)));
}

struct Case {
  const char* name;
  MoeConfig config;
};

std::vector<Case> Cases() {
  const MoeConfig base{.num_experts = 7,
                       .experts_per_token = 3,
                       .expert_width = 6,
                       .num_shared = 2,
                       .bias_update_rate = 0};
  std::vector<Case> cases = {
      {"sigmoid", base},   {"sigmoid_raw_scaled", base}, {"softmax", base},   {"softmax_raw", base},
      {"no_shared", base}, {"all_experts", base},        {"one_expert", base}};
  cases[1].config.normalize_weights = false;
  cases[1].config.routed_scale = 2.5;
  cases[2].config.router = RouterKind::kSoftmax;
  cases[3].config.router = RouterKind::kSoftmax;
  cases[3].config.normalize_weights = false;
  cases[4].config.num_shared = 0;
  cases[5].config.experts_per_token = 7;
  cases[6].config.num_experts = cases[6].config.experts_per_token = 1;
  cases[6].config.normalize_weights = false;
  return cases;
}

class MoeLayerTest : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Configs, MoeLayerTest, testing::ValuesIn(Cases()),
                         [](const auto& info) { return std::string(info.param.name); });

void ShiftBias(MoeFixture& f, const MoeConfig& config) {
  if (config.router == RouterKind::kSigmoid)
    f.Bias().CopyFrom(RandomTensor(f.Bias().shape(), f.Bias().dtype(), 77, 0.3));
}

void ExpectGradients(MoeFixture& f, const std::vector<Tensor>& out, const NaiveResult& naive,
                     const NaiveResult& exact, bool shared) {
  EXPECT_TRUE(WithinNaiveError(out[0], naive.y, exact.y, 2)) << "y";
  EXPECT_TRUE(WithinNaiveError(out[1], naive.d.x, exact.d.x, 3)) << "dx";
  EXPECT_TRUE(WithinNaiveError(f.Get("gate.weight").grad, naive.d.gate, exact.d.gate, 3)) << "gate";
  EXPECT_TRUE(WithinNaiveError(f.Get("experts.gate_up_proj.weight").grad, naive.d.gate_up,
                               exact.d.gate_up, 3))
      << "gate_up";
  EXPECT_TRUE(
      WithinNaiveError(f.Get("experts.down_proj.weight").grad, naive.d.down, exact.d.down, 3))
      << "down";
  if (!shared) return;
  EXPECT_TRUE(WithinNaiveError(f.Get("shared_experts.gate_up_proj.weight").grad,
                               naive.d.shared_gate_up, exact.d.shared_gate_up, 3));
  EXPECT_TRUE(WithinNaiveError(f.Get("shared_experts.down_proj.weight").grad, naive.d.shared_down,
                               exact.d.shared_down, 3));
}

TEST_P(MoeLayerTest, EqualsTheNaiveReferenceInEveryType) {
  const MoeConfig& config = GetParam().config;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(NameOf(dtype));
    MoeFixture f(kWidth, config, dtype);
    ShiftBias(f, config);
    const Tensor x = RandomTensor({37, kWidth}, dtype, 5),
                 dy = RandomTensor({37, kWidth}, dtype, 6);
    const NaiveResult exact = test::RunNaive<double>(f.Naive(x), dy.ToDoubles(), Exact);
    ASSERT_GT(exact.margin, 1e-4) << "the choice is not stable enough to compare";
    const auto round = [dtype](double v) { return RoundTo(dtype, v); };
    const NaiveResult naive =
        dtype == DType::kF64 ? exact : test::RunNaive<float>(f.Naive(x), dy.ToDoubles(), round);
    const std::vector<Tensor> out = f.Step(x, dy);
    if (dtype == DType::kF64) {
      EXPECT_TRUE(Close(out[0], exact.y, test::Tolerance(dtype)));
      EXPECT_TRUE(Close(out[1], exact.d.x, test::Tolerance(dtype)));
      EXPECT_TRUE(Close(f.Get("gate.weight").grad, exact.d.gate, test::Tolerance(dtype)));
      EXPECT_TRUE(Close(f.Get("experts.gate_up_proj.weight").grad, exact.d.gate_up,
                        test::Tolerance(dtype)));
      EXPECT_TRUE(
          Close(f.Get("experts.down_proj.weight").grad, exact.d.down, test::Tolerance(dtype)));
    } else {
      ExpectGradients(f, out, naive, exact, config.num_shared > 0);
    }
  }
}

// The first gradient of the experts' matrices is set, whatever stands there; the others are zeroed.
TEST_P(MoeLayerTest, TheFirstGradientOfAStepFindsNothing) {
  MoeFixture f(kWidth, GetParam().config, DType::kF32), g(kWidth, GetParam().config, DType::kF32);
  const Tensor x = RandomTensor({21, kWidth}, DType::kF32, 5),
               dy = RandomTensor({21, kWidth}, DType::kF32, 6);
  f.flat().ZeroGrad();
  for (const FlatParameters::Entry& entry : g.flat().entries()) {
    Tensor& grad = entry.parameter->grad;
    grad.CopyFrom(Tensor::FromDoubles(std::vector<double>(static_cast<size_t>(grad.numel()),
                                                          std::numeric_limits<double>::quiet_NaN()),
                                      grad.shape(), grad.dtype()));
  }
  g.flat().ZeroGrad();
  EXPECT_TRUE(std::isnan(g.Get("experts.down_proj.weight").grad.ToDoubles()[0]));
  for (int micro_batch = 0; micro_batch < 2; ++micro_batch) {
    f.Step(x, dy);
    g.Step(x, dy);
    EXPECT_TRUE(SameBits(f.flat().grad(), g.flat().grad())) << micro_batch;
  }
  // Without a backward pass they are zero too.
  g.flat().ZeroGrad();
  g.flat().ZeroUnsetGrad();
  EXPECT_TRUE(SameBits(g.flat().grad(), Tensor::ZerosLike(g.flat().grad())));
  f.Step(x, dy);
  f.flat().ZeroGrad();
  f.Step(x, dy);
  g.Step(x, dy);
  EXPECT_TRUE(SameBits(f.flat().grad(), g.flat().grad()));
}

TEST_P(MoeLayerTest, GradientsOfInputAndEveryParameter) {
  MoeFixture f(kWidth, GetParam().config, DType::kF64);
  ShiftBias(f, GetParam().config);
  const Tensor x = RandomTensor({11, kWidth}, DType::kF64, 5);
  // Steps of 1e-6 change no choice: it is frozen, as its gradient is defined.
  ASSERT_GT(test::RunNaive<double>(f.Naive(x), x.ToDoubles(), Exact).margin, 1e-4);
  const PackedSequences sequences = PackedSequences::Single(11);
  const auto forward = [&](Tape& tape, const std::vector<Variable>& in) {
    ForwardContext ctx{.tape = tape, .sequences = sequences};
    return std::vector<Variable>{f.layer().Forward(ctx, in[0], {})};
  };
  EXPECT_TRUE(test::GradCheck(forward, {x}, test::ParametersOf(f.layer())));
}

TEST_P(MoeLayerTest, EveryTapeModeGivesTheSameBits) {
  const MoeConfig& config = GetParam().config;
  MoeFixture recorded(kWidth, config, DType::kF32), recomputed(kWidth, config, DType::kF32);
  const Tensor x = RandomTensor({37, kWidth}, DType::kF32, 5),
               dy = RandomTensor({37, kWidth}, DType::kF32, 6);
  const std::vector<Tensor> a = recorded.Step(x, dy),
                            b = recomputed.Step(x, dy, {.recompute = true});
  EXPECT_TRUE(SameBits(a[0], b[0]));
  EXPECT_TRUE(SameBits(a[1], b[1]));
  EXPECT_TRUE(SameBits(recorded.flat().grad(), recomputed.flat().grad()));
  EXPECT_TRUE(SameBits(a[0], recorded.Infer(x)));
}

// Names, order of use and shapes: what checkpoints and exports rely on.
TEST(MoeLayer, ParametersAndBuffers) {
  MoeFixture f(kWidth,
               {.num_experts = 5, .experts_per_token = 2, .expert_width = 4, .num_shared = 3},
               DType::kBF16);
  std::vector<std::string> found;
  for (const Parameter* p : test::ParametersOf(f.layer()))
    found.push_back(p->name + " " + ToString(p->shape));
  f.layer().ForEachBuffer([&](const std::string& name, Tensor& b) {
    found.push_back(name + " " + ToString(b.shape()) + NameOf(b.dtype()));
  });
  EXPECT_EQ(found,
            (std::vector<std::string>{"layers.3.mlp.gate.weight [5, 10]",
                                      "layers.3.mlp.shared_experts.gate_up_proj.weight [24, 10]",
                                      "layers.3.mlp.shared_experts.down_proj.weight [10, 12]",
                                      "layers.3.mlp.experts.gate_up_proj.weight [5, 8, 10]",
                                      "layers.3.mlp.experts.down_proj.weight [5, 10, 4]",
                                      "layers.3.mlp.gate.e_score_correction_bias [5]f32"}));
}

TEST(MoeLayer, DecodingOneTokenEqualsItsRowOfTheBatch) {
  const MoeConfig config{
      .num_experts = 9, .experts_per_token = 2, .expert_width = 6, .num_shared = 1};
  MoeFixture f(kWidth, config, DType::kF64);
  const Tensor x = RandomTensor({5, kWidth}, DType::kF64, 5), all = f.Infer(x);
  for (int64_t n = 0; n < 5; ++n)
    EXPECT_TRUE(Close(f.Infer(x.Slice(n, n + 1)), all.Slice(n, n + 1), 1e-14));
}

TEST(MoeLayer, NoRowsGiveNoRowsAndNoGradient) {
  MoeFixture f(kWidth,
               {.num_experts = 3, .experts_per_token = 2, .expert_width = 4, .num_shared = 1},
               DType::kF32);
  const Tensor none = Tensor::Empty({0, kWidth}, DType::kF32);
  Metrics metrics;
  EXPECT_EQ(f.Step(none, none, {.metrics = &metrics})[0].dim(0), 0);
  for (const double g : f.flat().grad().ToDoubles()) ASSERT_EQ(g, 0);
  EXPECT_EQ(metrics.scalars().at("layers.3.mlp.max_load").weight, 0);
}

// All experts, equal weights: the dense sum. Equal gate rows give equal scores whatever the token.
TEST(MoeLayer, AllExpertsWithEqualWeightsAreTheDenseSum) {
  const int64_t experts = 4, hidden = 6;
  for (const RouterKind kind : {RouterKind::kSigmoid, RouterKind::kSoftmax}) {
    const MoeConfig config{.num_experts = experts,
                           .experts_per_token = experts,
                           .expert_width = hidden,
                           .num_shared = 0,
                           .router = kind,
                           .routed_scale = 4.0};
    MoeFixture f(kWidth, config, DType::kF64);
    f.Get("gate.weight").value.Zero();
    // One network whose hidden units are those of all experts.
    SwiGluFfn dense(kWidth, experts * hidden, 0.5, 0.5);
    dense.SetName("dense");
    FlatParameters flat(dense, DType::kF64, 1);
    std::vector<Parameter*> p = test::ParametersOf(dense);
    double *gate_up = p[0]->value.mutable_data<double>(),
           *down = p[1]->value.mutable_data<double>();
    const double* expert_gate_up = f.Get("experts.gate_up_proj.weight").value.data<double>();
    const double* expert_down = f.Get("experts.down_proj.weight").value.data<double>();
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t i = 0; i < hidden; ++i) {
        for (int64_t c = 0; c < kWidth; ++c) {
          gate_up[(e * hidden + i) * kWidth + c] =
              expert_gate_up[(e * 2 * hidden + i) * kWidth + c];
          gate_up[((experts + e) * hidden + i) * kWidth + c] =
              expert_gate_up[(e * 2 * hidden + hidden + i) * kWidth + c];
          down[c * experts * hidden + e * hidden + i] = expert_down[(e * kWidth + c) * hidden + i];
        }
      }
    }
    const Tensor x = RandomTensor({23, kWidth}, DType::kF64, 5);
    Tape tape(Tape::Mode::kInference);
    const PackedSequences sequences = PackedSequences::Single(23);
    ForwardContext ctx{.tape = tape, .sequences = sequences};
    EXPECT_TRUE(Close(f.Infer(x), dense.Forward(ctx, Variable(x), {}).value(), 1e-13));
  }
}

TEST(MoeLayer, EveryTokenAtOneExpertAndTheOthersEmpty) {
  const MoeConfig config{.num_experts = 5,
                         .experts_per_token = 1,
                         .expert_width = 4,
                         .num_shared = 0,
                         .normalize_weights = false};
  MoeFixture f(kWidth, config, DType::kF64);
  f.Bias().CopyFrom(Tensor::FromVector(std::vector<double>{0, 0, 0, 100, 0}, {5}));
  const Tensor x = RandomTensor({600, kWidth}, DType::kF64, 5),
               dy = RandomTensor({600, kWidth}, DType::kF64, 6);
  Metrics metrics;
  const std::vector<Tensor> out = f.Step(x, dy, {.metrics = &metrics});
  const NaiveResult exact = test::RunNaive<double>(f.Naive(x), dy.ToDoubles(), Exact);
  EXPECT_TRUE(Close(out[0], exact.y, 1e-12));
  EXPECT_TRUE(Close(out[1], exact.d.x, 1e-12));
  EXPECT_TRUE(Close(f.Get("experts.gate_up_proj.weight").grad, exact.d.gate_up, 1e-12));
  EXPECT_EQ(metrics.scalars().at("layers.3.mlp.max_load").mean(), 5);
  EXPECT_EQ(metrics.scalars().at("layers.3.mlp.unused_experts").mean(), 0.8);
  EXPECT_EQ(metrics.scalars().at("layers.3.mlp.load_entropy").mean(), 0);
  EXPECT_EQ(metrics.vectors().at("layers.3.mlp.tokens_per_expert"),
            (std::vector<double>{0, 0, 0, 600, 0}));
}

}  // namespace
}  // namespace lacuna
