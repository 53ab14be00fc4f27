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
  // Tokens in order of probability, ties to the lowest id: taken from a heap, because a few of them
  // hold nearly all of it.
  std::vector<int32_t> heap(x.size()), taken;
  std::iota(heap.begin(), heap.end(), 0);
  const auto below = [&](int32_t a, int32_t b) {
    const double pa = x[static_cast<size_t>(a)], pb = x[static_cast<size_t>(b)];
    return pa != pb ? pa < pb : a > b;
  };
  std::make_heap(heap.begin(), heap.end(), below);
  const auto take = [&] {
    std::pop_heap(heap.begin(), heap.end(), below);
    taken.push_back(heap.back());
    heap.pop_back();
    return x[static_cast<size_t>(taken.back())];
  };
  double kept = sum;
  if (options.top_p < 1) {
    for (kept = take(); !heap.empty() && kept < options.top_p * sum;) kept += take();
    heap.clear();
  }
  double left = PhiloxUniform(options.seed, sequence, position) * kept;
  for (size_t i = 0; i < taken.size() || !heap.empty(); ++i) {
    left -= i < taken.size() ? x[static_cast<size_t>(taken[i])] : take();
    if (left < 0) return taken[i];
  }
  return taken.back();
}

}  // namespace lacuna
