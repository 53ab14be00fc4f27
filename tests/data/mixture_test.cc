// The schedule over sources: shares in every prefix, extreme weights, lookup at any k.
#include "data/mixture.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/error.h"

namespace lacuna {
namespace {

TEST(Mixture, EveryPrefixHasItsShares) {
  const std::vector<double> weights = {0.7, 0.2, 0.05, 0.05};
  const Mixture mixture(weights);
  std::vector<int64_t> counts(4, 0);
  for (int64_t k = 0; k < 20000; ++k) {
    const Mixture::Pick pick = mixture.At(k);
    ASSERT_EQ(pick.number, counts[static_cast<size_t>(pick.source)]);
    ++counts[static_cast<size_t>(pick.source)];
    for (size_t s = 0; s < 4; ++s) {
      const double ahead = static_cast<double>(counts[s]) - weights[s] * static_cast<double>(k + 1);
      ASSERT_LT(ahead, 1.05) << k;
      ASSERT_GT(ahead, -3.05) << k;
    }
  }
}

TEST(Mixture, ExtremeWeightsAndManySources) {
  const Mixture mixture({0.001, 0.999});
  EXPECT_EQ(mixture.Counts(1'000'000), (std::vector<int64_t>{1000, 999000}));
  const Mixture tiny({1e-30, 1.0, 1e30});  // whatever is asked for is seen at least once a period
  EXPECT_EQ(tiny.shares(), (std::vector<int64_t>{1, 1, Mixture::kPeriod - 2}));
  const std::vector<double> many(100, 1.0);
  const Mixture equal(many);
  EXPECT_EQ(std::accumulate(equal.shares().begin(), equal.shares().end(), int64_t{0}),
            Mixture::kPeriod);
  for (int64_t k = 0; k < 100; ++k) EXPECT_EQ(equal.At(k).number, 0) << k;
}

TEST(Mixture, GoesOnBehindItsPeriodAndFarOut) {
  const Mixture mixture({3.0, 1.0});
  int64_t first = 0;
  for (int64_t k = Mixture::kPeriod - 1000; k < Mixture::kPeriod + 1000; ++k) {
    const Mixture::Pick pick = mixture.At(k);
    if (k == Mixture::kPeriod - 1000) first = mixture.Counts(k)[0];
    if (pick.source != 0) continue;
    EXPECT_EQ(pick.number, first++) << k;
  }
  const int64_t far = int64_t{1} << 52;
  EXPECT_EQ(mixture.Counts(far)[0], far / 4 * 3);
  EXPECT_EQ(Mixture({5.0}).At(far).number, far);
}

TEST(Mixture, TiesGoToTheFirstListed) {
  const Mixture mixture({1.0, 1.0, 1.0, 1.0});
  for (int64_t k = 0; k < 40; ++k) EXPECT_EQ(mixture.At(k).source, k % 4);
  EXPECT_THROW(Mixture({1.0, 0.0}), Error);
  EXPECT_THROW(Mixture({}), Error);
}

}  // namespace
}  // namespace lacuna
