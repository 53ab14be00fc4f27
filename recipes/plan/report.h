// The text of `lacuna plan`.
#pragma once

#include <string>

#include "recipes/plan/rank_report.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// Tables of parameters, FLOPs, memory of a rank and a host, the run's length, communication and time of a step,
// and NSA's sparsity.
std::string PlanText(const Recipe& recipe, const PlanOptions& options);

// Every key of a recipe with its default, type and meaning, by section.
std::string KeysText();

// 27613245440 -> "27.61 B", 8192 -> "8.19 K"; decimal units K M B T.
std::string FormatMagnitude(double value);

}  // namespace lacuna
