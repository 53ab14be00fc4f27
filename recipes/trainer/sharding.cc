#include "recipes/trainer/sharding.h"

namespace lacuna {

absl::StatusOr<Mesh> MeshOf(const Recipe& recipe, Communicator& world) {
  return MakeMesh(world, static_cast<int>(recipe.parallel.expert),
                  static_cast<int>(recipe.parallel.context));
}

Sharding ShardingOf(const Recipe& recipe, const Mesh& mesh) {
  return {.whole = {.size = mesh.world->size(), .rank = mesh.world->rank()},
          .parts = {.size = mesh.replica->size(), .rank = mesh.replica->rank()},
          .bucket_bytes = recipe.train.bucket_mb << 20,
          .shard_updates = recipe.parallel.zero >= 2,
          .shard_values = recipe.parallel.zero >= 3};
}

}  // namespace lacuna
