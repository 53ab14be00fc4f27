#include "nn/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lacuna {

double LearningRate(const OptimizerConfig& config, int64_t step, int64_t total_steps) {
  const double peak = config.learning_rate, floor = config.min_learning_rate_ratio;
  if (step < config.warmup_steps)
    return peak * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  switch (config.schedule) {
    case Schedule::kConstant:
      return peak;
    case Schedule::kCosine: {
      const double span =
          static_cast<double>(std::max<int64_t>(1, total_steps - config.warmup_steps));
      const double progress = std::min(1.0, static_cast<double>(step - config.warmup_steps) / span);
      return peak * (floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * progress)));
    }
    case Schedule::kWsd: {
      const int64_t decay_start = total_steps - config.decay_steps;
      if (step < decay_start) return peak;
      const double progress =
          std::min(1.0, static_cast<double>(step - decay_start) /
                            static_cast<double>(std::max<int64_t>(1, config.decay_steps)));
      return peak * (1 - (1 - floor) * progress);
    }
  }
  return peak;
}

}  // namespace lacuna
