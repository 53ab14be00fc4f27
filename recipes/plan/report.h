// The text of `lacuna plan`.
#pragma once

#include <cstdint>
#include <string>

#include "recipes/schema/recipe.h"

namespace lacuna {

// Tables of parameters, FLOPs, memory of a rank, the run's length and NSA's sparsity, lines of at
// most 100 columns.
std::string PlanText(const Recipe& recipe, int64_t ranks);

// Every key of a recipe with its default, type and meaning, by section.
std::string KeysText();

// 27613245440 -> "27.61 B", 8192 -> "8.19 K"; decimal units K M B T.
std::string FormatMagnitude(double value);

}  // namespace lacuna
