// What a step reports about sparse attention, as sums over its queries: a training step on a card
// hands seven numbers to the host, not gates and block lists.
//   sums[0..2]  gates of the branches cmp, slc, win over all queries and heads
//   sums[3]     entropy of the block scores, sums[4] their number
//   sums[5]     selected blocks that reach into the window of their query, sums[6] selected blocks
// 3 to 6 are of the queries (n, g) with more blocks before them than are selected: positions[n] /
// select_block + 1 > S.
// gate: [N, H, 3] f32 or f64   entropy: [N, G] in its dtype   blocks: [N, G, S] i32, -1 ends a list
// positions: [N] i32, within the document   sums: [7] f64, set
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

inline constexpr int64_t kNumNsaStatistics = 7;

struct NsaStatisticsArgs {
  TensorRef gate, entropy, blocks, positions, sums;
  int64_t select_block;
  int64_t window;
};

namespace cpu {
void NsaStatistics(const NsaStatisticsArgs&, Stream);
}
namespace cuda {
void NsaStatistics(const NsaStatisticsArgs&, Stream);
}
namespace ops {
void NsaStatistics(const NsaStatisticsArgs&, Stream);
}

}  // namespace lacuna
