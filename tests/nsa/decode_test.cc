// Decoding a batch of sequences against the forward pass of each.
#include <gtest/gtest.h>

#include "tests/nsa/decode_case.h"
#include "tests/support/compare.h"

namespace lacuna {
namespace {

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
    test::ExpectDecodeEqualsForward(&decode, 3 * test::Tolerance(dtype));
  }
}

INSTANTIATE_TEST_SUITE_P(All, NsaDecode, testing::Values(DType::kF64, DType::kF32),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

}  // namespace
}  // namespace lacuna
