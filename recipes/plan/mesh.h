// How the ranks of a run share its model (section parallel), and whether that number of ranks can.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// A configuration error where parallel.expert does not divide `ranks`.
absl::Status CheckMesh(const Recipe& recipe, int64_t ranks);

}  // namespace lacuna
