// The NSA operator on a device: the golden cases, parity of every kernel that it calls, no wait of
// the host in training, packed bits, and decoding.
#include <gtest/gtest.h>

#include <optional>

#include "tests/nsa/golden_case.h"
#include "tests/support/compare.h"
#include "tests/support/cuda_parity.h"

namespace lacuna {
namespace {

using test::Close;

constexpr const char* kGolden[] = {"packed",
                                   "packed_yarn",
                                   "default_grid",
                                   "grid_16_48_8",
                                   "grid_64_64_16",
                                   "gelu",
                                   "heads_are_groups",
                                   "linear",
                                   "one_token",
                                   "ties",
                                   "mean_equal_blocks",
                                   "short_documents",
                                   "window_dense",
                                   "all_blocks_dense",
                                   "compression_dense"};

struct Problem {
  test::GoldenArrays arrays;
  test::NsaCase c;
  test::PhiWithStorage phi_k, phi_v;

  Problem(const std::string& name, DType dtype, Device device)
      : arrays(test::LoadGolden(name)),
        c(test::GoldenCase(arrays, dtype)),
        phi_k(c.in.at("q").dim(2), c.config, dtype, 1),
        phi_v(c.in.at("v_cmp").dim(2), c.config, dtype, 2) {
    test::FillPhi(arrays, "phi_k", dtype, &phi_k);
    test::FillPhi(arrays, "phi_v", dtype, &phi_v);
    c = c.To(device);
    phi_k.MoveTo(device);
    phi_v.MoveTo(device);
  }
  Tensor ExpectedBlocks() const {
    const auto& blocks = arrays.at("out_blocks");
    return Tensor::FromVector(blocks.Ints(), blocks.shape);
  }
  test::NsaRun Run(bool forced) {
    NsaOptions options;
    if (forced) options.blocks = ExpectedBlocks().To(c.device());
    return test::RunNsa(c, phi_k.phi(), phi_v.phi(), options);
  }
  // What the golden file has of a run: outputs, gradients of inputs and of phi's parameters.
  std::map<std::string, Tensor> Outputs(const test::NsaRun& run) {
    std::map<std::string, Tensor> outputs = {
        {"out_o", run.result.o.value()}, {"out_o_cmp", run.result.o_cmp},
        {"out_o_slc", run.result.o_slc}, {"out_o_win", run.result.o_win},
        {"out_k_cmp", run.result.k_cmp}, {"out_v_cmp", run.result.v_cmp}};
    for (const char* name : test::kNsaInputNames)
      outputs[std::string("grad_") + name] = run.gradients.at(name);
    for (const auto& [prefix, phi] : {std::pair{"grad_phi_k.", &phi_k}, {"grad_phi_v.", &phi_v}}) {
      for (Parameter* p : phi->parameters()) outputs[prefix + p->name.substr(4)] = p->grad;
    }
    for (auto& [name, tensor] : outputs) tensor = tensor.To(kCpu);
    return outputs;
  }
};

class CudaGolden : public testing::TestWithParam<const char*> {
 protected:
  // Not of a lone token: its softmax has one key, so all its gradients of scores are rounding errors
  // of zero, of which no relative error says anything.
  CudaGolden() {
    if (std::string(GetParam()) != "one_token") parity_.emplace();
  }

 private:
  std::optional<test::CudaParity> parity_;
};

TEST_P(CudaGolden, F32) {
  Problem p(GetParam(), DType::kF32, CudaDevice());
  const bool forced = std::string(GetParam()) == "ties";
  const test::NsaRun run = p.Run(forced);
  EXPECT_TRUE(test::SameBits(run.result.blocks.To(kCpu), p.ExpectedBlocks()));
  for (const auto& [name, tensor] : p.Outputs(run)) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(Close(tensor, p.arrays.at(name).values, 3 * test::Tolerance(DType::kF32)));
  }
}

// On the reference's lists: as close to it as the CPU is with the same rounded inputs.
TEST_P(CudaGolden, BF16) {
  Problem p(GetParam(), DType::kBF16, CudaDevice()), on_cpu(GetParam(), DType::kBF16, kCpu);
  const std::map<std::string, Tensor> ours = p.Outputs(p.Run(/*forced=*/true)),
                                      cpu = on_cpu.Outputs(on_cpu.Run(/*forced=*/true));
  for (const auto& [name, tensor] : ours) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(test::WithinNaiveError(tensor, cpu.at(name).ToDoubles(), p.arrays.at(name).values,
                                       name.starts_with("out_") ? 2 : 3));
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaGolden, testing::ValuesIn(kGolden),
                         [](const auto& info) { return std::string(info.param); });

const NsaConfig kSmall{.block = 8,
                       .stride = 4,
                       .select_block = 16,
                       .num_selected = 4,
                       .num_init = 1,
                       .num_local = 2,
                       .window = 10};

// Forward and backward of the operator never make the host wait.
TEST(CudaNsa, TrainingDoesNotWait) {
  const test::NsaCase c =
      test::RandomNsaCase(kSmall, {170, 6, 93}, 4, 2, 32, 16, DType::kBF16, 1).To(CudaDevice());
  test::PhiWithStorage phi_k(32, kSmall, DType::kBF16, 1), phi_v(16, kSmall, DType::kBF16, 2);
  phi_k.MoveTo(CudaDevice());
  phi_v.MoveTo(CudaDevice());
  const int64_t before = NumHostWaits();
  const test::NsaRun run =
      test::RunNsa(c, phi_k.phi(), phi_v.phi(), {.blocks = {}, .entropy = true});
  EXPECT_EQ(NumHostWaits(), before);
}

// The same bits twice; and a packed document's attention has the bits it has alone.
TEST(CudaNsa, PackedDocumentsAreBitwiseAlone) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::vector<int32_t> lengths = {150, 1, 37, 8, 203};
    const test::NsaCase packed =
        test::RandomNsaCase(kSmall, lengths, 4, 2, 32, 16, dtype, 2100).To(CudaDevice());
    test::PhiWithStorage phi_k(32, kSmall, dtype, 1), phi_v(16, kSmall, dtype, 2);
    phi_k.MoveTo(CudaDevice());
    phi_v.MoveTo(CudaDevice());
    const test::NsaRun together = test::RunNsa(packed, phi_k.phi(), phi_v.phi()),
                       again = test::RunNsa(packed, phi_k.phi(), phi_v.phi());
    const auto same = [](const Tensor& a, const Tensor& b) {
      return test::SameBits(a.To(kCpu), b.To(kCpu));
    };
    EXPECT_TRUE(same(together.result.o.value(), again.result.o.value()));
    for (size_t d = 0; d < lengths.size(); ++d) {
      const int64_t begin = packed.cu_seqlens[d], end = packed.cu_seqlens[d + 1];
      test::NsaCase alone = packed;
      alone.cu_seqlens = {0, lengths[d]};
      for (auto& [name, tensor] : alone.in) tensor = tensor.Slice(begin, end).Clone();
      alone.d_o = alone.d_o.Slice(begin, end).Clone();
      const test::NsaRun run = test::RunNsa(alone, phi_k.phi(), phi_v.phi());
      EXPECT_TRUE(same(together.result.o.value().Slice(begin, end), run.result.o.value()))
          << "document " << d;
      for (const char* name : test::kNsaInputNames) {
        EXPECT_TRUE(same(together.gradients.at(name), again.gradients.at(name))) << name;
        EXPECT_TRUE(same(together.gradients.at(name).Slice(begin, end), run.gradients.at(name)))
            << name << " of document " << d;
      }
    }
  }
}

}  // namespace
}  // namespace lacuna
