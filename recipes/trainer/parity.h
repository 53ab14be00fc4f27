// A training step of a recipe on its own data, with every CUDA kernel compared with the CPU's
// (core/cuda/parity.h).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct ParityResult {
  std::string table;  // a row an output of a kernel, for people
  bool passed = false;
};

// Forward, backward, clipping and AdamW on the first `tokens` tokens of the recipe's first sample.
// The CPU does everything twice, in f64 and in the recipe's dtype: the whole model at full width
// takes minutes for a thousand tokens. A configuration error in a build or on a machine without
// CUDA.
absl::StatusOr<ParityResult> CheckParity(const Recipe& recipe, int64_t tokens);

}  // namespace lacuna
