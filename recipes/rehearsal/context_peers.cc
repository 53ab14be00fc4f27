#include "recipes/rehearsal/context_peers.h"

namespace lacuna {

bool ContextPeers::Gather(const Tensor& in, Tensor& out, int rank) {
  const int64_t count = in.numel();
  if (count == 0) return true;
  const int64_t ranks = out.numel() / count;
  for (int64_t r = 0; r < ranks; ++r) {
    const int64_t moved = (r - rank + ranks) % ranks % count;
    out.View(r * count, {count - moved}).CopyFrom(in.View(moved, {count - moved}));
    if (moved > 0) out.View((r + 1) * count - moved, {moved}).CopyFrom(in.View(0, {moved}));
  }
  return true;
}

}  // namespace lacuna
