// Scores and choice of the selection blocks: which l'-token blocks the heads of a group attend to.
//   p[t, h, i] = exp(scale * q[t, h] . k_cmp[i, g] - lse[t, h]),  i visible            the
//     compression branch's probabilities; 0 where it is less than 2^-126
//   s[t, g, j] = sum over h in g, m < l'/d, k < l/d of p[t, h, (l'/d) j + m - k]       (NSA, arXiv
//     2502.11089, eq. 9 and 10)
// i.e. each compressed block counts once for each d-token piece of it that lies in block j.
// Probabilities and sums stay in the accumulation type. The floor is that of normal f32 numbers, and
// holds in every type: below it some hardware keeps denormals and some has 0, so without it what is
// chosen among blocks that no head looks at would depend on who computes it.
// Forced, and counted in n: blocks 0 .. num_init - 1 and the own block with the num_local - 1
// before it. The free places go by descending score, ties to the lower index, NaN last; where fewer
// than n blocks are visible, all are taken. Blocks are numbered within the document.
//
// q: [N, H, Dk] rotated   k_cmp: [Tc, G, Dk] rotated   lse: [N, H] of the compression
//   branch   ranges: [N, 2] i32 visible k_cmp rows
// positions: [N] i32 within the document   cu_queries, cu_keys: [D + 1] i32, the documents' rows in
//   q and in k_cmp
// blocks: [N, G, n] i32, valid entries first and strictly ascending, then -1
// Optional: scores [N, G, Ts] (0 where there is no block), entropy [N, G]: -sum p ln p of s
// normalised over its blocks, divided by the ln of their number (0 where there are fewer than two).
// Both in the accumulation type.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

// Of a probability that is not 0.
inline constexpr float kLeastProbability = 0x1p-126f;

struct SelectBlocksArgs {
  TensorRef q, k_cmp, lse, ranges, positions, cu_queries, cu_keys, blocks, scores, entropy;
  double scale;
  int64_t block, stride, select_block;  // l, d, l'
  int64_t num_init, num_local;
};

namespace cpu {
void SelectBlocks(const SelectBlocksArgs&, Stream);
}
namespace cuda {
void SelectBlocks(const SelectBlocksArgs&, Stream);
}
namespace ops {
void SelectBlocks(const SelectBlocksArgs&, Stream);
}

}  // namespace lacuna
