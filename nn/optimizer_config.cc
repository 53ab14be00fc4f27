#include "nn/optimizer_config.h"

#include <fmt/format.h>

#include <cmath>

namespace lacuna {

void OptimizerConfig::Validate(const std::string& section,
                               std::vector<std::string>* violations) const {
  const auto require = [&](bool holds, const char* key, const auto& value,
                           const std::string& rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  const auto positive = [](double x) { return std::isfinite(x) && x > 0; };
  const auto is_decay = [](double x) { return x >= 0 && x < 1; };
  require(positive(learning_rate), "learning_rate", learning_rate, "above 0");
  require(min_learning_rate_ratio >= 0 && min_learning_rate_ratio <= 1, "min_learning_rate_ratio",
          min_learning_rate_ratio, "in [0, 1]");
  require(warmup_steps >= 0, "warmup_steps", warmup_steps, "at least 0");
  if (schedule == Schedule::kWsd) {
    require(decay_steps >= 1, "decay_steps", decay_steps,
            fmt::format("at least 1 where {}.schedule is wsd", section));
  } else {
    // A decay that nothing reads would look as if it were in force.
    require(decay_steps == 0, "decay_steps", decay_steps,
            fmt::format("0 where {}.schedule is not wsd", section));
  }
  require(is_decay(beta1), "beta1", beta1, "in [0, 1)");
  require(is_decay(beta2), "beta2", beta2, "in [0, 1)");
  if (moments == MomentType::kBF16) {
    // A moment that is to change by less than half of bf16's last bit stays as it is for ever.
    constexpr double kSlowest = 0.995;
    const std::string rule = fmt::format("at most {} where {}.moments is bf16", kSlowest, section);
    require(!is_decay(beta1) || beta1 <= kSlowest, "beta1", beta1, rule);
    require(!is_decay(beta2) || beta2 <= kSlowest, "beta2", beta2, rule);
  }
  require(positive(eps), "eps", eps, "above 0");
  require(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", weight_decay,
          "0 or above");
  require(std::isfinite(clip_norm) && clip_norm >= 0, "clip_norm", clip_norm, "0 or above");
}

}  // namespace lacuna
