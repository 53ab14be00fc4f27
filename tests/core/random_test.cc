// Philox-4x32-10 against the known answers of its authors (Random123), and what is made of it.
#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace lacuna {
namespace {

void ExpectBlock(const PhiloxBlock& block, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT_EQ(block.word[0], a);
  EXPECT_EQ(block.word[1], b);
  EXPECT_EQ(block.word[2], c);
  EXPECT_EQ(block.word[3], d);
}

TEST(Philox, KnownAnswers) {
  ExpectBlock(Philox(0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  ExpectBlock(Philox(~0ull, ~0ull, ~0ull), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  ExpectBlock(Philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e), 0xd16cfe09,
              0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(Philox, UniformMoments) {
  constexpr uint64_t kDraws = 100000;
  double mean = 0, square = 0;
  for (uint64_t k = 0; k < kDraws; ++k) {
    const double u = PhiloxUniform(7, 3, k);
    ASSERT_TRUE(u >= 0 && u < 1);
    mean += u / kDraws;
    square += u * u / kDraws;
  }
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1.0 / 12 / kDraws));
  EXPECT_NEAR(square, 1.0 / 3, 0.005);
}

TEST(Philox, NormalMoments) {
  constexpr uint64_t kDraws = 100000;
  double mean = 0, variance = 0, fourth = 0;
  for (uint64_t k = 0; k < kDraws; ++k) {
    const double x = PhiloxNormal(7, 3, k);
    mean += x / kDraws;
    variance += x * x / kDraws;
    fourth += x * x * x * x / kDraws;
  }
  EXPECT_NEAR(mean, 0, 5 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(variance, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth, 2.9, 0.15);  // a sum of 12 uniforms has kurtosis 3 - 6 / (5 * 12)
}

TEST(Philox, StreamsDiffer) {
  EXPECT_NE(PhiloxUniform(1, 1, 5), PhiloxUniform(1, 2, 5));
  EXPECT_NE(PhiloxUniform(1, 1, 5), PhiloxUniform(2, 1, 5));
  EXPECT_NE(PhiloxUniform(1, 1, 5), PhiloxUniform(1, 1, 6));
}

}  // namespace
}  // namespace lacuna
