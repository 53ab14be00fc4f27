// The same micro-batch of a recipe again and again, every kernel's outputs compared with the first
// pass's (core/repeat_checker.h).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct RepeatOptions {
  int64_t passes = 100;
  double seconds = 0;         // ends the passes earlier; 0: not
  int64_t first_sample = 0;   // of the micro-batch, in the recipe's stream
  bool forward_only = false;  // neither backward nor the gradients' norm
  // Not 0: the CUDA kernels whose warps work apart delay them at random, by this seed and the pass.
  uint32_t delays = 0;
};

struct RepeatResult {
  std::string text;  // for people
  bool passed = false;
};

// Weights as the recipe begins with them; nothing is updated. Errors: those of opening the recipe's
// data and choosing its device.
absl::StatusOr<RepeatResult> RepeatStep(const Recipe& recipe, const RepeatOptions& options);

}  // namespace lacuna
