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
// A share group is `shard` consecutive ranks (a node's) over which shares of whole parameters are cut;
// the ranks of a copy group, those with the same rank % shard, have the same shares. A context group
// is `context` consecutive ranks; no number has to divide another. To gradients
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

  // Where shares are cut over fewer than all ranks:
  std::unique_ptr<Communicator> share;  // rank() is world rank % shard
  std::unique_ptr<Communicator> copy;   // rank() is world rank / shard

  Communicator& share_group() const { return share != nullptr ? *share : *world; }
  // Null where no two ranks have the same share.
  Communicator* copy_group() const { return copy.get(); }
  // Null where each rank has whole samples.
  Communicator* context_group() const { return context->size() > 1 ? context.get() : nullptr; }
  // Null where each rank has all experts.
  Communicator* expert_group() const { return expert->size() > 1 ? expert.get() : nullptr; }
};

// Every rank of `world`, which must outlive the mesh, calls it. `shard` 0: all ranks. ConfigError
// where one of them (parallel.expert, parallel.context, parallel.shard) does not divide the number of
// ranks; throws CommunicationError.
absl::StatusOr<Mesh> MakeMesh(Communicator& world, int expert, int context = 1, int shard = 0);

}  // namespace lacuna
