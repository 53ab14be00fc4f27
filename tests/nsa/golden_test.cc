// Every golden case of an independent float64 reference (tests/nsa/golden/*.npz): inputs, outputs,
// block lists, all gradients, and decoding token by token, in f64 and f32 (operator_test.cc has
// bf16, by the relative rule).
#include <gtest/gtest.h>

#include <bit>

#include "nsa/nsa_cache.h"
#include "tests/nsa/golden_case.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using test::Close;
using Arrays = test::GoldenArrays;

class Golden : public testing::TestWithParam<std::tuple<const char*, DType>> {};

TEST_P(Golden, ForwardAndGradients) {
  const auto [name, dtype] = GetParam();
  const Arrays arrays = test::LoadGolden(name);
  const test::NsaCase c = test::GoldenCase(arrays, dtype);
  test::PhiWithStorage phi_k(c.in.at("q").dim(2), c.config, dtype, 1),
      phi_v(c.in.at("v_cmp").dim(2), c.config, dtype, 2);
  test::FillPhi(arrays, "phi_k", dtype, &phi_k);
  test::FillPhi(arrays, "phi_v", dtype, &phi_v);
  const std::vector<int32_t> expected_blocks = arrays.at("out_blocks").Ints();
  NsaOptions options{.blocks = {}, .scores = true};
  // Exact ties are compared where sums are exact (GoldenTies); here they run on the reference's
  // lists.
  const bool forced = std::string(name) == "ties";
  if (forced) options.blocks = Tensor::FromVector(expected_blocks, arrays.at("out_blocks").shape);
  const test::NsaRun run = test::RunNsa(c, phi_k.phi(), phi_v.phi(), options);

  const double tolerance = test::Tolerance(dtype) * (dtype == DType::kF64 ? 1 : 3);
  EXPECT_TRUE(Close(run.result.o.value(), arrays.at("out_o").values, tolerance));
  EXPECT_TRUE(Close(run.result.o_cmp, arrays.at("out_o_cmp").values, tolerance));
  EXPECT_TRUE(Close(run.result.o_slc, arrays.at("out_o_slc").values, tolerance));
  EXPECT_TRUE(Close(run.result.o_win, arrays.at("out_o_win").values, tolerance));
  EXPECT_TRUE(Close(run.result.k_cmp, arrays.at("out_k_cmp").values, tolerance));
  EXPECT_TRUE(Close(run.result.v_cmp, arrays.at("out_v_cmp").values, tolerance));
  if (!forced) {
    EXPECT_TRUE(Close(run.result.scores, arrays.at("out_scores").values, tolerance));
    EXPECT_TRUE(test::SameBits(run.result.blocks,
                               Tensor::FromVector(expected_blocks, arrays.at("out_blocks").shape)));
  }
  for (const char* input : test::kNsaInputNames) {
    SCOPED_TRACE(input);
    EXPECT_TRUE(
        Close(run.gradients.at(input), arrays.at(std::string("grad_") + input).values, tolerance));
  }
  for (const auto& [prefix, phi] : {std::pair{"grad_phi_k.", &phi_k}, {"grad_phi_v.", &phi_v}}) {
    for (Parameter* p : phi->parameters()) {
      SCOPED_TRACE(p->name);
      EXPECT_TRUE(Close(p->grad, arrays.at(prefix + p->name.substr(4)).values, tolerance));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Golden,
    testing::Combine(testing::Values("packed", "packed_yarn", "default_grid", "grid_16_48_8",
                                     "grid_64_64_16", "heads_are_groups", "gelu", "linear",
                                     "mean_equal_blocks", "short_documents", "one_token",
                                     "all_blocks_dense", "window_dense", "compression_dense",
                                     "ties"),
                     testing::Values(DType::kF64, DType::kF32)),
    [](const auto& info) {
      return std::string(std::get<0>(info.param)) + "_" + NameOf(std::get<1>(info.param));
    });

// Equal scores go to the lower index. Sums are exact, whatever their order, where the visible
// compressed blocks are a power of two.
TEST(GoldenTies, ListsWhereSumsAreExact) {
  const Arrays arrays = test::LoadGolden("ties");
  const test::NsaCase c = test::GoldenCase(arrays, DType::kF64);
  test::PhiWithStorage phi_k(c.in.at("q").dim(2), c.config, DType::kF64, 1),
      phi_v(c.in.at("v_cmp").dim(2), c.config, DType::kF64, 2);
  test::FillPhi(arrays, "phi_k", DType::kF64, &phi_k);
  test::FillPhi(arrays, "phi_v", DType::kF64, &phi_v);
  const test::NsaRun run = test::RunNsa(c, phi_k.phi(), phi_v.phi());
  const std::vector<int32_t> expected = arrays.at("out_blocks").Ints();
  const int32_t* blocks = run.result.blocks.data<int32_t>();
  const int64_t row = c.config.num_selected * c.in.at("k_slc").dim(1);
  int compared = 0;
  for (int64_t t = 0; t < c.cu_seqlens.back(); ++t) {
    const int64_t visible = NumCompressed(t + 1, c.config.block, c.config.stride);
    if (visible == 0 || !std::has_single_bit(static_cast<uint64_t>(visible))) continue;
    // Left out blocks exist, so that the choice matters.
    compared += t / c.config.select_block + 1 > c.config.num_selected;
    for (int64_t i = t * row; i < (t + 1) * row; ++i)
      ASSERT_EQ(blocks[i], expected[static_cast<size_t>(i)]) << "t = " << t;
  }
  EXPECT_GT(compared, 0);
}

class GoldenDecode : public testing::TestWithParam<int64_t> {};

// Left-padded rows: a cache never sees the pads; each row is a sequence of its own. The first
// `prompt` tokens go in at once.
TEST_P(GoldenDecode, LeftPaddedYarn) {
  const Arrays arrays = test::LoadGolden("decode_left_padded_yarn");
  const test::NsaCase c = test::GoldenCase(arrays, DType::kF64);
  const int64_t dk = c.in.at("q").dim(3), dv = c.in.at("v_cmp").dim(3), steps = c.in.at("q").dim(1),
                heads = c.in.at("q").dim(2);
  test::PhiWithStorage phi_k(dk, c.config, DType::kF64, 1), phi_v(dv, c.config, DType::kF64, 2);
  test::FillPhi(arrays, "phi_k", DType::kF64, &phi_k);
  test::FillPhi(arrays, "phi_v", DType::kF64, &phi_v);
  RopeTable rope(c.rope, DType::kF64);
  rope.Prepare(steps);
  const std::vector<int32_t> pad = arrays.at("pad").Ints();
  for (int64_t b = 0; b < static_cast<int64_t>(pad.size()); ++b) {
    const int64_t first = pad[static_cast<size_t>(b)], length = steps - first,
                  prompt = std::min(GetParam(), length);
    const auto rows = [&](const std::string& name, int64_t begin, int64_t end) {
      const Tensor all = c.in.at(name).Slice(b, b + 1);
      return Variable(
          all.Reshape({steps, all.dim(2), all.dim(3)}).Slice(first + begin, first + end));
    };
    const auto inputs = [&](int64_t begin, int64_t end) {
      std::map<std::string, Variable> v;
      for (const char* name : test::kNsaInputNames) v[name] = rows(name, begin, end);
      return test::MakeInputs(v);
    };
    NsaCache cache(c.config);
    Tensor o = Tensor::Empty({length, heads, dv}, DType::kF64);
    if (prompt > 0) {
      Tape tape(Tape::Mode::kInference);
      const auto grid = std::make_shared<const NsaGrid>(PackedSequences::Single(prompt), c.config);
      const NsaResult result =
          NsaOperator(tape, inputs(0, prompt), phi_k.phi(), phi_v.phi(), grid, rope, c.config);
      cache.FillFromPrompt(inputs(0, prompt), result);
      o.Slice(0, prompt).CopyFrom(result.o.value());
    }
    for (int64_t t = prompt; t < length; ++t) {
      o.Slice(t, t + 1).CopyFrom(
          test::DecodeTogether({&cache}, inputs(t, t + 1), c.config, phi_k.phi(), phi_v.phi(), rope)
              .o);
    }
    const auto& expected = arrays.at("out_o");
    const int64_t row = heads * dv;
    const std::vector<double> real(expected.values.begin() + (b * steps + first) * row,
                                   expected.values.begin() + (b + 1) * steps * row);
    EXPECT_TRUE(Close(o, real, test::Tolerance(DType::kF64))) << "row " << b;
  }
}

INSTANTIATE_TEST_SUITE_P(Prompts, GoldenDecode, testing::Values(0, 1, 7, 8, 33, 89));

}  // namespace
}  // namespace lacuna
