// phi over packed documents: each has the bits it has alone, in as many kernel calls.
#include <gtest/gtest.h>

#include <cmath>

#include "core/kernel.h"
#include "nn/flat_parameters.h"
#include "nsa/block_gather.h"
#include "tests/nsa/nsa_case.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

constexpr int64_t kGroups = 3, kWidth = 5;

struct PhiRun {
  Tensor y, dx;
  std::vector<Tensor> parameter_gradients;
};

std::vector<int32_t> Offsets(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> cu{0};
  for (const int32_t length : lengths) cu.push_back(cu.back() + length);
  return cu;
}

// phi of documents of these lengths, x and dy given, from gradients of zero.
PhiRun RunPhi(test::PhiWithStorage& phi, const NsaConfig& config,
              const std::vector<int32_t>& lengths, const Tensor& x, const Tensor& dy) {
  const auto grid = std::make_shared<const NsaGrid>(PackedSequences(Offsets(lengths)), config);
  for (Parameter* p : phi.parameters()) p->grad.Zero();
  Tape tape(Tape::Mode::kRecord, kCpuStream);
  const Variable in = tape.Leaf(x);
  const Variable y = phi.phi().Compress(tape, in, grid);
  tape.Backward({{y, dy.Slice(0, grid->num_compressed()).Clone()}});
  PhiRun run{y.value(), tape.Grad(in), {}};
  for (Parameter* p : phi.parameters()) run.parameter_gradients.push_back(p->grad.Clone());
  return run;
}

class PhiTest : public testing::TestWithParam<std::tuple<PhiKind, DType>> {
 protected:
  NsaConfig config() const {
    NsaConfig c;
    c.block = 8;
    c.stride = 4;
    c.select_block = 16;
    c.window = 10;
    c.phi = std::get<PhiKind>(GetParam());
    return c;
  }
  DType dtype() const { return std::get<DType>(GetParam()); }
};

TEST_P(PhiTest, PackedDocumentsAreBitwiseAlone) {
  const std::vector<int32_t> lengths = {150, 1, 37, 8, 0, 7, 203, 11};
  const std::vector<int32_t> cu = Offsets(lengths);
  const NsaConfig c = config();
  test::PhiWithStorage phi(kWidth, c, dtype(), 5);
  const Tensor x = test::RandomTensor({cu.back(), kGroups, kWidth}, dtype(), 1),
               dy = test::RandomTensor({cu.back(), kGroups, kWidth}, dtype(), 2);
  const PhiRun packed = RunPhi(phi, c, lengths, x, dy);
  std::vector<std::vector<double>> sums;
  for (const Tensor& g : packed.parameter_gradients)
    sums.emplace_back(static_cast<size_t>(g.numel()), 0.0);
  int64_t row = 0;
  for (size_t d = 0; d < lengths.size(); ++d) {
    SCOPED_TRACE("document " + std::to_string(d));
    const int64_t rows = NumCompressed(lengths[d], c.block, c.stride);
    const PhiRun alone = RunPhi(phi, c, {lengths[d]}, x.Slice(cu[d], cu[d + 1]).Clone(),
                                dy.Slice(row, row + rows).Clone());
    EXPECT_TRUE(test::SameBits(packed.y.Slice(row, row + rows), alone.y));
    EXPECT_TRUE(test::SameBits(packed.dx.Slice(cu[d], cu[d + 1]), alone.dx));
    for (size_t p = 0; p < sums.size(); ++p) {
      const std::vector<double> g = alone.parameter_gradients[p].ToDoubles();
      for (size_t i = 0; i < g.size(); ++i) sums[p][i] += g[i];
    }
    row += rows;
  }
  for (size_t p = 0; p < sums.size(); ++p) {
    EXPECT_TRUE(test::Close(packed.parameter_gradients[p], sums[p],
                            test::Tolerance(AccumulationType(dtype()))));
  }
}

// Documents shorter than a block: no rows, gradients of zero.
TEST_P(PhiTest, NoCompleteBlock) {
  const NsaConfig c = config();
  test::PhiWithStorage phi(kWidth, c, dtype(), 5);
  for (const std::vector<int32_t>& lengths :
       {std::vector<int32_t>{7}, std::vector<int32_t>{7, 3, 7}}) {
    const Tensor x = test::RandomTensor({Offsets(lengths).back(), kGroups, kWidth}, dtype(), 1);
    const PhiRun run = RunPhi(phi, c, lengths, x, x);
    EXPECT_EQ(run.y.dim(0), 0);
    EXPECT_EQ(run.dx.ToDoubles(), std::vector<double>(static_cast<size_t>(x.numel()), 0.0));
    for (const Tensor& g : run.parameter_gradients)
      EXPECT_EQ(g.ToDoubles(), std::vector<double>(static_cast<size_t>(g.numel()), 0.0));
  }
}

class CountCalls : public KernelObserver {
 public:
  CountCalls() { Current() = this; }
  ~CountCalls() override { Current() = nullptr; }
  void OnCall(const KernelCall&, const std::function<void()>& run) override {
    ++calls;
    run();
  }
  int calls = 0;
};

TEST_P(PhiTest, KernelCallsDoNotGrowWithDocuments) {
  const NsaConfig c = config();
  test::PhiWithStorage phi(kWidth, c, dtype(), 5);
  const auto calls = [&](const std::vector<int32_t>& lengths) {
    const Tensor x = test::RandomTensor({Offsets(lengths).back(), kGroups, kWidth}, dtype(), 1);
    CountCalls count;
    RunPhi(phi, c, lengths, x, x);
    return count.calls;
  };
  const int one = calls({20});
  EXPECT_EQ(one, c.phi == PhiKind::kMlp ? 10 : c.phi == PhiKind::kLinear ? 5 : 2);
  EXPECT_EQ(calls(std::vector<int32_t>(100, 20)), one);
}

// Several documents' blocks are not one document's.
TEST(GatherBlocks, SeveralDocumentsNeedTables) {
  const Tensor x = test::RandomTensor({20, 2, 3}, DType::kF32, 1);
  Tensor y = Tensor::Empty({2, 2, 3}, DType::kF32);  // of documents of 10 and 10 tokens; of 20: 4
  EXPECT_THROW(
      ops::BlockMeanFwd({.x = x.Ref(), .y = y.MutableRef(), .block = 8, .stride = 4}, kCpuStream),
      Error);
}

// Before training: sqrt(l) times the mean, tokens' places included; a single hidden unit has only its
// activation.
TEST(PhiStartTest, IsTheMeanOfTheBlock) {
  struct Root : Module {
    Root(int64_t width, const NsaConfig& c) : phi(width, c, /*mean_start=*/true) {
      AddModule("phi", &phi);
    }
    Phi phi;
  };
  struct Case {
    PhiKind kind;
    int64_t hidden;
    PhiActivation activation;
  };
  for (const Case& c : {Case{PhiKind::kLinear, 2, PhiActivation::kSilu},
                        {PhiKind::kMlp, 2, PhiActivation::kSilu},
                        {PhiKind::kMlp, 2, PhiActivation::kGeluTanh},
                        {PhiKind::kMlp, 5, PhiActivation::kSilu},
                        {PhiKind::kMlp, 1, PhiActivation::kSilu}}) {
    NsaConfig config;
    config.block = 8;
    config.stride = 4;
    config.phi = c.kind;
    config.phi_hidden = c.hidden;
    config.activation = c.activation;
    Root root(kWidth, config);
    const FlatParameters parameters(root, DType::kF64, 3);
    Tensor pos;
    root.ForEachParameter([&](Parameter& p) {
      if (p.name.ends_with("pos")) pos = p.value;
    });
    const Tensor x = test::RandomTensor({30, kGroups, kWidth}, DType::kF64, 1);
    const auto grid = std::make_shared<const NsaGrid>(PackedSequences({0, 30}), config);
    Tape tape(Tape::Mode::kInference, kCpuStream);
    const Tensor y = root.phi.Compress(tape, Variable(x), grid).value();
    std::vector<double> wanted;
    const std::vector<double> tokens = x.ToDoubles(), places = pos.ToDoubles();
    for (int64_t row = 0; row < grid->num_compressed(); ++row) {
      for (int64_t i = 0; i < kGroups * kWidth; ++i) {
        double sum = 0;
        for (int64_t t = 0; t < 8; ++t)
          sum += tokens[static_cast<size_t>((4 * row + t) * kGroups * kWidth + i)] +
                 places[static_cast<size_t>(t * kWidth + i % kWidth)];
        sum /= std::sqrt(8.0);
        wanted.push_back(c.hidden == 1 ? sum / (1 + std::exp(-sum)) : sum);
      }
    }
    EXPECT_TRUE(test::Close(y, wanted, 1e-14)) << c.hidden;
  }
}

INSTANTIATE_TEST_SUITE_P(All, PhiTest,
                         testing::Combine(testing::Values(PhiKind::kMlp, PhiKind::kLinear,
                                                          PhiKind::kMean),
                                          testing::Values(DType::kF64, DType::kF32, DType::kBF16)),
                         [](const auto& info) {
                           const PhiKind kind = std::get<PhiKind>(info.param);
                           return std::string(kind == PhiKind::kMlp      ? "mlp_"
                                              : kind == PhiKind::kLinear ? "linear_"
                                                                         : "mean_") +
                                  NameOf(std::get<DType>(info.param));
                         });

}  // namespace
}  // namespace lacuna
