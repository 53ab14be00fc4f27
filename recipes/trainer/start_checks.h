// What a run must pass before its data is opened and its model is built.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device.h"
#include "distributed/communicator.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// A configuration error where section parallel asks for what the trainer does not do.
absl::Status CheckParallel(const Recipe& recipe, int64_t ranks);

// This rank's device, with train.memory_limit_gib set and the ranks told (Preflight). A configuration
// error: CheckParallel's, ChooseDevice's, CheckDeterminism's, on a card CheckMemory's; Preflight's
// error; the same on every rank of `comm`.
absl::StatusOr<Device> PrepareDevice(const Recipe& recipe, Communicator& comm);

}  // namespace lacuna
