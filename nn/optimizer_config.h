// Section `optimizer` of a recipe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lacuna {

enum class Schedule { kCosine, kWsd, kConstant };
// kF32: the type of the master weights (f64 in an f64 run).
enum class MomentType { kF32, kBF16 };

struct OptimizerConfig {
  double learning_rate = 3e-4;           // peak
  double min_learning_rate_ratio = 0.1;  // of the peak, at the end
  Schedule schedule = Schedule::kCosine;
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;  // wsd: the last steps, in which the rate falls
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_norm = 1.0;  // of the global gradient norm; 0 switches clipping off
  MomentType moments = MomentType::kF32;

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
