// What a run must pass before its data is opened and its model is built.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/device.h"
#include "distributed/communicator.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// This rank's device, with train.memory_limit_gib set and the ranks told (Preflight). A configuration
// error: CheckMesh's, ChooseDevice's, CheckDeterminism's, on a card CheckMemory's; Preflight's
// error; the same on every rank of `comm`.
absl::StatusOr<Device> PrepareDevice(const Recipe& recipe, Communicator& comm);

}  // namespace lacuna
