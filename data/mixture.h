// Which source sample k comes from: the source that lags most behind its share of the samples so
// far (ties: the first listed).
//
// Weights are rounded to multiples of 2^-20 of their sum, at least one each, and the schedule
// repeats after 2^20 samples, so that any k is looked up in constant time. In every prefix a source
// is less than one sample ahead of its share, and every period has it exactly.
#pragma once

#include <cstdint>
#include <vector>

namespace lacuna {

class Mixture {
 public:
  static constexpr int64_t kPeriod = int64_t{1} << 20;

  // Weights > 0; 1 to 65535 of them.
  explicit Mixture(const std::vector<double>& weights);

  struct Pick {
    int64_t source = 0;
    int64_t number = 0;  // samples of the source before this one
  };
  Pick At(int64_t k) const;
  // Samples of each source among the first k.
  std::vector<int64_t> Counts(int64_t k) const;

  const std::vector<int64_t>& shares() const {
    return shares_;
  }  // samples of each source in a period

 private:
  int64_t CountBefore(int64_t source, int64_t k) const;

  std::vector<int64_t> shares_;
  std::vector<uint16_t> schedule_;  // [kPeriod]; empty for one source
  // [kPeriod / kStride, sources] samples of each source before every kStride-th entry
  std::vector<int32_t> checkpoints_;
};

}  // namespace lacuna
