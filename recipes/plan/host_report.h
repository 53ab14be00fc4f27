// The part of `lacuna plan` that is about the memory of a host: the copies that saves in the
// background are written from (distributed/state_snapshot.h).
#pragma once

#include <cstdint>
#include <string>

#include "recipes/plan/rank_report.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// Bytes that a rank reserves: master weights and moments of all parameters, divided by the ranks. 0
// where the recipe has no save in the background. Without the buffers of routers and the padding of
// what is copied at once.
int64_t SnapshotMemory(const Recipe& recipe, int64_t ranks);

// Of a rank and of a host, and whether that is there where options.host_memory_gib says what is.
// Empty where nothing is reserved.
std::string HostMemoryText(const Recipe& recipe, const PlanOptions& options);

}  // namespace lacuna
