// Mesh: the groups of ranks of a run whose experts are spread over `expert` ranks, and whose samples
// are shared by `context` ranks each.
//
// An expert group is `expert` consecutive ranks that together hold every expert once (on one host,
// the ranks with the fastest links). A replica group is the ranks that hold the same experts: those
// with the same rank % expert. With 8 ranks and expert = 4:
//
//   expert groups    {0 1 2 3} {4 5 6 7}
//   replica groups   {0 4} {1 5} {2 6} {3 7}
//
// A context group is `context` consecutive ranks; neither number has to divide the other. To gradients
// and experts its ranks are as any others: each has rows of its own.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "distributed/communicator.h"

namespace lacuna {

struct Mesh {
  Communicator* world = nullptr;
  std::unique_ptr<Communicator> expert;   // rank() is the place in the group: world rank % expert
  std::unique_ptr<Communicator> replica;  // rank() is world rank / expert

  std::unique_ptr<Communicator> context;  // rank() is world rank % context

  // Null where each rank has whole samples.
  Communicator* context_group() const { return context->size() > 1 ? context.get() : nullptr; }
  // Null where each rank has all experts.
  Communicator* expert_group() const { return expert->size() > 1 ? expert.get() : nullptr; }
};

// Every rank of `world`, which must outlive the mesh, calls it. ConfigError where expert or context
// (parallel.expert, parallel.context) does not divide the number of ranks; throws
// CommunicationError.
absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert, int context = 1);

}  // namespace lacuna
