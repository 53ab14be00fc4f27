#include "data/mixture.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace lacuna {
namespace {

constexpr int64_t kStride = 256;

// Whole shares of the period that sum to it: rounded down but at least 1, then the rest to the
// largest remainders.
std::vector<int64_t> RoundShares(const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<int64_t> shares;
  std::vector<std::pair<double, size_t>> by_remainder;
  for (size_t s = 0; s < weights.size(); ++s) {
    const double exact = weights[s] / sum * static_cast<double>(Mixture::kPeriod);
    shares.push_back(std::max<int64_t>(1, static_cast<int64_t>(std::floor(exact))));
    by_remainder.emplace_back(static_cast<double>(shares.back()) - exact, s);
  }
  std::sort(by_remainder.begin(), by_remainder.end());
  int64_t rest = Mixture::kPeriod - std::accumulate(shares.begin(), shares.end(), int64_t{0});
  for (size_t i = 0; rest > 0; i = (i + 1) % by_remainder.size(), --rest)
    ++shares[by_remainder[i].second];
  // Raising tiny shares to 1 may have taken too much: the largest gives it back.
  if (rest < 0) *std::max_element(shares.begin(), shares.end()) += rest;
  return shares;
}

}  // namespace

Mixture::Mixture(const std::vector<double>& weights) {
  LACUNA_CHECK(!weights.empty() && weights.size() < 65536, "a mixture of {} sources",
               weights.size());
  for (const double weight : weights)
    LACUNA_CHECK(std::isfinite(weight) && weight > 0, "a source of weight {}", weight);
  shares_ = RoundShares(weights);
  if (shares_.size() == 1) return;
  const size_t sources = shares_.size();
  std::vector<int64_t> counts(sources, 0);
  schedule_.resize(static_cast<size_t>(kPeriod));
  for (int64_t k = 0; k < kPeriod; ++k) {
    if (k % kStride == 0) checkpoints_.insert(checkpoints_.end(), counts.begin(), counts.end());
    size_t most = 0;
    int64_t largest = INT64_MIN;
    for (size_t s = 0; s < sources; ++s) {
      const int64_t deficit = shares_[s] * (k + 1) - counts[s] * kPeriod;
      if (deficit > largest) largest = deficit, most = s;
    }
    schedule_[static_cast<size_t>(k)] = static_cast<uint16_t>(most);
    ++counts[most];
  }
  LACUNA_CHECK(counts == shares_, "the schedule of a mixture misses its shares");
}

int64_t Mixture::CountBefore(int64_t source, int64_t k) const {
  if (schedule_.empty()) return k;
  const int64_t in_period = k % kPeriod, checkpoint = in_period / kStride;
  int64_t count = k / kPeriod * shares_[static_cast<size_t>(source)];
  count +=
      checkpoints_[static_cast<size_t>(checkpoint) * shares_.size() + static_cast<size_t>(source)];
  for (int64_t i = checkpoint * kStride; i < in_period; ++i)
    count += schedule_[static_cast<size_t>(i)] == source;
  return count;
}

Mixture::Pick Mixture::At(int64_t k) const {
  LACUNA_CHECK(k >= 0, "sample {}", k);
  const int64_t source = schedule_.empty() ? 0 : schedule_[static_cast<size_t>(k % kPeriod)];
  return {source, CountBefore(source, k)};
}

std::vector<int64_t> Mixture::Counts(int64_t k) const {
  std::vector<int64_t> counts;
  for (int64_t s = 0; s < static_cast<int64_t>(shares_.size()); ++s)
    counts.push_back(CountBefore(s, k));
  return counts;
}

}  // namespace lacuna
