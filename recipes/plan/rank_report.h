// The part of `lacuna plan` that depends on the ranks and the card.
#pragma once

#include <cstdint>
#include <string>

#include "recipes/plan/device_table.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct PlanOptions {
  int64_t ranks = 1;
  double overload = kPlannedOverload;
  const PlannedDevice* device = nullptr;  // none: no verdict and no times
  int64_t hosts = 1;                      // with the same number of ranks each
  double host_memory_gib = 0;             // of a host; 0: not known, so no verdict
};

// Bytes of a rank by category; the device's beside them, where there is one.
std::string MemoryText(const Recipe& recipe, const PlanOptions& options);
// What a rank sends in a step, and how long the step takes. Empty for one rank without a device.
std::string StepText(const Recipe& recipe, const PlanOptions& options);

// One line of a table.
void AppendRow(const std::string& label, const std::string& value, const std::string& note,
               std::string* out);

}  // namespace lacuna
