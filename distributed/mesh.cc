#include "distributed/mesh.h"

namespace lacuna {

absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert) {
  if (expert < 1 || world.size() % expert != 0) {
    return ConfigError("parallel.expert: {} does not divide the number of ranks, {}", expert,
                       world.size());
  }
  Mesh mesh;
  mesh.world = &world;
  mesh.expert = world.Split(world.rank() / expert);
  mesh.expert->set_name("expert");
  mesh.replica = world.Split(world.rank() % expert);
  mesh.replica->set_name("replica");
  return mesh;
}

}  // namespace lacuna
