// Mesh: the groups of ranks of a run whose experts are spread over `expert` ranks.
//
// An expert group is `expert` consecutive ranks that together hold every expert once (on one host,
// the ranks with the fastest links). A replica group is the ranks that hold the same experts: those
// with the same rank % expert. With 8 ranks and expert = 4:
//
//   expert groups    {0 1 2 3} {4 5 6 7}
//   replica groups   {0 4} {1 5} {2 6} {3 7}
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "distributed/communicator.h"

namespace lacuna {

struct Mesh {
  Communicator* world = nullptr;
  std::unique_ptr<Communicator> expert;   // rank() is the place in the group: world rank % expert
  std::unique_ptr<Communicator> replica;  // rank() is world rank / expert

  // Null where each rank has all experts.
  Communicator* expert_group() const { return expert->size() > 1 ? expert.get() : nullptr; }
};

// Every rank of `world`, which must outlive the mesh, calls it. ConfigError where expert
// (parallel.expert) does not divide the number of ranks; throws CommunicationError.
absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert);

}  // namespace lacuna
