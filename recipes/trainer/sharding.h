// How the ranks of a run share its flat buffers.
#pragma once

#include "distributed/mesh.h"
#include "nn/flat_layout.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// The groups of ranks of section parallel. Errors: MakeMesh's.
absl::StatusOr<Mesh> MeshOf(const Recipe& recipe, Communicator& world);

// Sections parallel and train (bucket_mb) as this rank of the mesh has them.
Sharding ShardingOf(const Recipe& recipe, const Mesh& mesh);

}  // namespace lacuna
