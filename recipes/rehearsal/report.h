// What a rehearsal found, beside what lacuna plan says.
#pragma once

#include <string>

#include "recipes/plan/memory.h"
#include "recipes/rehearsal/rehearsal.h"

namespace lacuna {

// Measured memory and the plan's, part by part.
struct MemoryComparison {
  struct Part {
    const char* name;
    int64_t measured = 0, planned = 0;
  };
  std::vector<Part> parts;  // weights, gradients, optimizer, all else of a micro-batch
  int64_t measured() const;
  int64_t planned() const;
};
MemoryComparison CompareMemory(const Recipe& recipe, const RehearsalOptions& options,
                               const RehearsalResult& result);

std::string RehearsalText(const Recipe& recipe, const RehearsalOptions& options,
                          const RehearsalResult& result);
// The same numbers, one object: SI units, bytes.
std::string RehearsalJson(const Recipe& recipe, const RehearsalOptions& options,
                          const RehearsalResult& result);

}  // namespace lacuna
