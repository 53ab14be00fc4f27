#include "moe/moe_config.h"

#include <fmt/format.h>

#include <cmath>

namespace lacuna {
namespace {

const char* NameOf(AuxLossScope scope) {
  switch (scope) {
    case AuxLossScope::kNone:
      return "none";
    case AuxLossScope::kMicroBatch:
      return "micro_batch";
    case AuxLossScope::kSequence:
      return "sequence";
    case AuxLossScope::kGlobalBatch:
      return "global_batch";
  }
  return "?";
}

bool IsNonNegative(double x) {
  return std::isfinite(x) && x >= 0;
}

}  // namespace

void MoeConfig::Validate(const std::string& section, std::vector<std::string>* violations) const {
  const auto require = [&](bool holds, const char* key, const auto& value,
                           const std::string& rule) {
    if (!holds)
      violations->push_back(fmt::format("{}.{} = {}: must be {}", section, key, value, rule));
  };
  require(num_experts >= 1, "num_experts", num_experts, "at least 1");
  require(experts_per_token >= 1 && experts_per_token <= num_experts, "experts_per_token",
          experts_per_token, fmt::format("1 to {}.num_experts = {}", section, num_experts));
  require(expert_width >= 1, "expert_width", expert_width, "at least 1");
  require(num_shared >= 0, "num_shared", num_shared, "at least 0");
  // One normalised weight is 1 whatever the router says: the loss would never train it.
  require(!(normalize_weights && experts_per_token == 1), "normalize_weights", normalize_weights,
          fmt::format("false where {}.experts_per_token is 1 (the router would get no gradient)",
                      section));
  require(std::isfinite(routed_scale) && routed_scale > 0, "routed_scale", routed_scale, "above 0");
  require(IsNonNegative(bias_update_rate), "bias_update_rate", bias_update_rate, "0 or above");
  if (aux_loss == AuxLossScope::kNone) {
    require(aux_loss_coef == 0, "aux_loss_coef", aux_loss_coef,
            fmt::format("0 where {}.aux_loss is none", section));
  } else {
    require(std::isfinite(aux_loss_coef) && aux_loss_coef > 0, "aux_loss_coef", aux_loss_coef,
            fmt::format("above 0 where {}.aux_loss is {}", section, NameOf(aux_loss)));
  }
  require(IsNonNegative(z_loss_coef), "z_loss_coef", z_loss_coef, "0 or above");
}

}  // namespace lacuna
