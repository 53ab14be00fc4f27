// What a user can change where a run has no memory left.
#pragma once

#include <cstdint>
#include <string>

#include "core/out_of_memory.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// Lines for the end of an OutOfMemoryError: the recipe's keys that would help, with their values
// now and what to set, the one that saves most first. A saving is what the failed run holds of a
// category (or would hold at the peak of a step, where EstimateMemory says more), times the share
// by which the change lowers the estimate of that category. A change that the recipe's rules do not
// allow is left out. Where parameters, gradients and optimizer hold most of it, the keys that set
// the size of the model follow.
std::string MemoryAdvice(const Recipe& recipe, int64_t ranks, const OutOfMemory& request);

}  // namespace lacuna
