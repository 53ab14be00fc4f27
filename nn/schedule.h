// Learning-rate schedules over optimizer steps.
#pragma once

#include <cstdint>

#include "nn/optimizer_config.h"

namespace lacuna {

// Learning rate of step `step` (from 0) of `total_steps`: linear warm-up over warmup_steps (step 0
// takes 1/warmup_steps of the peak), then
//   cosine:   from the peak to min_learning_rate_ratio * peak over the remaining steps
//   wsd:      the peak, then linearly to min_learning_rate_ratio * peak over the last decay_steps
//     (Hu et al., 2024)
//   constant: the peak
double LearningRate(const OptimizerConfig& config, int64_t step, int64_t total_steps);

}  // namespace lacuna
