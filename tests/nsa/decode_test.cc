// Decoding a batch of sequences against the forward pass of each.
#include <gtest/gtest.h>

#include "tests/nsa/decode_case.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

using test::Close;

const NsaConfig kSmall = {.block = 8,
                          .stride = 4,
                          .select_block = 16,
                          .num_selected = 4,
                          .num_init = 1,
                          .num_local = 2,
                          .window = 10};

struct Sequences {
  NsaConfig config;
  std::vector<int32_t> lengths;
  std::vector<int64_t> prompts;
};

// The edges of compressed rows, blocks and window are crossed one by one.
const Sequences kSetups[] = {
    {kSmall, {120, 1, 40, 20, 66}, {0, 0, 7, 8, 61}},
    {{.block = 32, .stride = 16, .select_block = 64, .num_selected = 4, .window = 50},
     {66, 33, 330, 200, 64},
     {61, 30, 290, 199, 0}},
    {{.block = 6,
      .stride = 6,
      .select_block = 12,
      .num_selected = 3,
      .num_init = 0,
      .num_local = 1,
      .window = 200,
      .phi = PhiKind::kMean},
     {77, 30},
     {13, 12}},
};

class NsaDecode : public testing::TestWithParam<DType> {};

TEST_P(NsaDecode, BatchEqualsForward) {
  const DType dtype = GetParam();
  uint64_t seed = 1;
  for (const Sequences& setup : kSetups) {
    SCOPED_TRACE(++seed);
    const test::NsaCase c =
        test::RandomNsaCase(setup.config, setup.lengths, 4, 2, 8, 6, dtype, seed);
    test::PhiWithStorage phi_k(8, setup.config, dtype, 1), phi_v(6, setup.config, dtype, 2);
    test::DecodeCase decode(c, setup.prompts, &phi_k, &phi_v);
    std::vector<NsaResult> whole;
    for (int64_t i = 0; i < decode.num_sequences(); ++i) whole.push_back(decode.Forward(i));
    // Those that have ended leave the batch.
    while (true) {
      std::vector<int64_t> running;
      for (int64_t i = decode.num_sequences() - 1; i >= 0; --i)
        if (!decode.ended(i)) running.push_back(i);
      if (running.empty()) break;
      const test::DecodeResult step = decode.Step(running);
      for (size_t r = 0; r < running.size(); ++r) {
        const auto row = static_cast<int64_t>(r);
        const NsaResult& expected = whole[static_cast<size_t>(running[r])];
        const int64_t t = decode.length(running[r]) - 1;
        SCOPED_TRACE("sequence " + std::to_string(running[r]) + ", t = " + std::to_string(t));
        ASSERT_TRUE(
            test::SameBits(step.blocks.Slice(row, row + 1), expected.blocks.Slice(t, t + 1)));
        ASSERT_TRUE(Close(step.o.Slice(row, row + 1), expected.o.value().Slice(t, t + 1),
                          3 * test::Tolerance(dtype)));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, NsaDecode, testing::Values(DType::kF64, DType::kF32),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace lacuna
