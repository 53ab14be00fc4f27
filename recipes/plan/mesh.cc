#include "recipes/plan/mesh.h"

#include "core/status.h"

namespace lacuna {

absl::Status CheckMesh(const Recipe& recipe, int64_t ranks) {
  const int64_t expert = recipe.parallel.expert;
  if (ranks % expert == 0) return absl::OkStatus();
  return ConfigError(
      "parallel.expert = {}: must divide the number of ranks, {} (mpirun -n; lacuna plan --ranks)",
      expert, ranks);
}

}  // namespace lacuna
