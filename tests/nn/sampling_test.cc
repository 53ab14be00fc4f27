// Sampling against its definition: all tokens sorted, the nucleus, one draw.
#include "nn/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

int32_t NaiveSample(const std::vector<double>& logits, const SamplingOptions& options,
                    uint64_t sequence, uint64_t position) {
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(logits[i] / options.temperature);
  std::vector<int32_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)];
  });
  size_t count = 0;
  double kept = 0;
  while (count < p.size() && (count == 0 || kept < options.top_p * sum))
    kept += p[static_cast<size_t>(order[count++])];
  double left = PhiloxUniform(options.seed, sequence, position) * kept;
  for (size_t i = 0; i < count; ++i) {
    left -= p[static_cast<size_t>(order[i])];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

TEST(Sampling, EqualsItsDefinition) {
  for (const double top_p : {0.0, 0.3, 0.9, 1.0}) {
    for (const double temperature : {0.2, 1.0, 3.0}) {
      for (uint64_t k = 0; k < 200; ++k) {
        const Tensor logits = test::RandomTensor({50}, DType::kF64, k);
        const SamplingOptions options{.temperature = temperature, .top_p = top_p, .seed = 7};
        EXPECT_EQ(SampleToken(logits, options, k, 3, 50),
                  NaiveSample(logits.ToDoubles(), options, k, 3));
      }
    }
  }
}

TEST(Sampling, TiesAndLimits) {
  const Tensor equal = Tensor::FromVector(std::vector<float>{1, 1, 1, 1}, {4});
  EXPECT_EQ(SampleToken(equal, {.temperature = 0}, 0, 0, 4), 0);
  EXPECT_EQ(SampleToken(equal, {.temperature = 1, .top_p = 0}, 0, 0, 4), 0);
  const Tensor padded = Tensor::FromVector(std::vector<float>{0, 1, 9}, {3});
  EXPECT_EQ(SampleToken(padded, {.temperature = 0}, 0, 0, 2), 1);
  for (uint64_t k = 0; k < 100; ++k) EXPECT_LT(SampleToken(padded, {.temperature = 1}, 0, k, 2), 2);
}

// Every token comes as often as its probability says.
TEST(Sampling, Frequencies) {
  const Tensor logits = Tensor::FromVector(
      std::vector<float>{std::log(0.5f), std::log(0.125f), std::log(0.375f)}, {3});
  int counts[3] = {0, 0, 0};
  const int draws = 20000;
  for (int k = 0; k < draws; ++k)
    ++counts[SampleToken(logits, {.temperature = 1}, 1, static_cast<uint64_t>(k), 3)];
  const double expected[3] = {0.5, 0.125, 0.375};
  for (int i = 0; i < 3; ++i)
    EXPECT_NEAR(counts[i] / static_cast<double>(draws), expected[i], 0.02);
}

}  // namespace
}  // namespace lacuna
