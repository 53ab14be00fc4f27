// What a training computed, step by step, and how far two are apart.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace lacuna {

struct TrainingTrace {
  std::vector<double> losses;            // of every step
  std::vector<double> norms, telemetry;  // of the first steps
  std::vector<double> bias;              // of the routers, after the last step
  std::vector<double> routing;           // RoutingRecord::OfAllRanks
  std::vector<double> choices;  // tokens per expert and bias, equally many numbers for every step
};

// Steps until experts get other numbers of tokens or another bias.
size_t StepsWithTheSameChoices(const TrainingTrace& a, const TrainingTrace& b);

// The largest |a[i] - b[i]| of i in [begin, end), relative to |b[i]| where that is above `floor`;
// infinite where sizes differ or a number is none.
double LargestDifference(const std::vector<double>& a, const std::vector<double>& b, double floor,
                         size_t begin = 0, size_t end = SIZE_MAX);

}  // namespace lacuna
