#include "recipes/trainer/sharding.h"

namespace lacuna {

absl::StatusOr<Mesh> MeshOf(const Recipe& recipe, Communicator& world) {
  return MakeMesh(world, static_cast<int>(recipe.parallel.expert),
                  static_cast<int>(recipe.parallel.context),
                  static_cast<int>(recipe.parallel.shard));
}

Sharding ShardingOf(const Recipe& recipe, const Mesh& mesh) {
  const Communicator* const copies = mesh.copy_group();
  return {.whole = {.size = mesh.share_group().size(), .rank = mesh.share_group().rank()},
          .parts = {.size = mesh.replica->size(), .rank = mesh.replica->rank()},
          .copies = copies == nullptr ? RankGroup{}
                                      : RankGroup{.size = copies->size(), .rank = copies->rank()},
          .bucket_bytes = recipe.train.bucket_mb << 20,
          .shard_updates = recipe.parallel.zero >= 2,
          .shard_values = recipe.parallel.zero >= 3};
}

}  // namespace lacuna
