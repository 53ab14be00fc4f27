#include "recipes/trainer/training_trace.h"

#include <algorithm>
#include <cmath>

namespace lacuna {

size_t StepsWithTheSameChoices(const TrainingTrace& a, const TrainingTrace& b) {
  const size_t steps = b.losses.size();
  if (a.choices.size() != b.choices.size()) return 0;
  const auto parted = std::mismatch(a.choices.begin(), a.choices.end(), b.choices.begin()).first;
  if (parted == a.choices.end()) return steps;
  return static_cast<size_t>(parted - a.choices.begin()) / (b.choices.size() / steps);
}

double LargestDifference(const std::vector<double>& a, const std::vector<double>& b, double floor,
                         size_t begin, size_t end) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = begin; i < std::min(end, a.size()); ++i) {
    const double difference = std::abs(a[i] - b[i]) / std::max(std::abs(b[i]), floor);
    largest = std::isnan(difference) ? INFINITY : std::max(largest, difference);
  }
  return largest;
}

}  // namespace lacuna
