// ContextPeers: the keys and values that the other ranks of a context group would send to a rehearsed
// one (nn/context_gather.h). They are this rank's own, moved on by one element for each rank between
// the two: of the right size, and no two blocks of keys alike, which would tie their scores.
#pragma once

#include "distributed/rehearsal_communicator.h"

namespace lacuna {

class ContextPeers : public AbsentPeers {
 public:
  bool Gather(const Tensor& in, Tensor& out, int rank) override;
};

}  // namespace lacuna
