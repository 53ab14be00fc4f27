#include "distributed/mesh.h"

namespace lacuna {

absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert, int context) {
  if (expert < 1 || world.size() % expert != 0) {
    return ConfigError("parallel.expert: {} does not divide the number of ranks, {}", expert,
                       world.size());
  }
  if (context < 1 || world.size() % context != 0) {
    return ConfigError("parallel.context: {} does not divide the number of ranks, {}", context,
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
  return mesh;
}

}  // namespace lacuna
