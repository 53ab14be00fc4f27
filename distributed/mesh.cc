#include "distributed/mesh.h"

namespace lacuna {

absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert, int context, int shard) {
  if (expert < 1 || world.size() % expert != 0) {
    return ConfigError("parallel.expert: {} does not divide the number of ranks, {}", expert,
                       world.size());
  }
  if (context < 1 || world.size() % context != 0) {
    return ConfigError("parallel.context: {} does not divide the number of ranks, {}", context,
                       world.size());
  }
  if (shard < 0 || (shard > 0 && world.size() % shard != 0)) {
    return ConfigError("parallel.shard: {} does not divide the number of ranks, {}", shard,
                       world.size());
  }
  Mesh mesh;
  mesh.world = &world;
  mesh.expert = world.Split(world.rank() / expert);
  mesh.expert->set_name("expert");
  mesh.replica = world.Split(world.rank() % expert);
  mesh.replica->set_name("replica");
  mesh.context = world.Split(world.rank() / context);
  mesh.context->set_name("context");
  if (shard == 0 || shard == world.size()) return mesh;
  mesh.share = world.Split(world.rank() / shard);
  mesh.share->set_name("share");
  mesh.copy = world.Split(world.rank() % shard);
  mesh.copy->set_name("copy");
  return mesh;
}

}  // namespace lacuna
