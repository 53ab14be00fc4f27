// Whether a rank's part of a recipe fits a card's memory, by the plan's numbers.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// A configuration error where the plan and what the libraries take pass `bytes`, the memory of
// `device` (its name): what is needed and for what, what there is, and MemoryAdvice.
absl::Status CheckMemory(const Recipe& recipe, int64_t ranks, const std::string& device,
                         int64_t bytes, double overload = kPlannedOverload);

}  // namespace lacuna
