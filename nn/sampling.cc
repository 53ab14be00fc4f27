#include "nn/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"

namespace lacuna {

int32_t SampleToken(const Tensor& logits, const SamplingOptions& options, uint64_t sequence,
                    uint64_t position, int64_t limit) {
  std::vector<double> x = logits.ToDoubles();
  x.resize(static_cast<size_t>(std::min<int64_t>(limit, logits.numel())));
  const auto best = std::max_element(x.begin(), x.end());
  if (options.temperature <= 0) return static_cast<int32_t>(best - x.begin());

  const double top = *best;
  double sum = 0;
  for (double& value : x) {
    value = std::exp((value - top) / options.temperature);
    sum += value;
  }
  std::vector<int32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return x[static_cast<size_t>(a)] > x[static_cast<size_t>(b)];
  });
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && (count == 0 || kept < options.top_p * sum))
    kept += x[static_cast<size_t>(order[count++])];

  double left = PhiloxUniform(options.seed, sequence, position) * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    left -= x[static_cast<size_t>(order[i])];
    if (left < 0) return order[i];
  }
  return order[count - 1];
}

}  // namespace lacuna
