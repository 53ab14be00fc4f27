// The overlapping compression blocks of all documents, one a row, as phi's first matrix product
// wants them.
//   blocks[i G + g, u D + c] = x[first(i) + u, g, c] + pos[u, c],   u < l       (GatherBlocksFwd)
//   dx[t, g, c] = sum over the blocks i that contain t, ascending, of
//       dblocks[i G + g, (t - first(i)) D + c]
//   dpos[u, c] += sum over i, g of dblocks[i G + g, u D + c]                    (GatherBlocksBwd)
// x, dx: [N, G, D]   pos: [l, D] or undefined   blocks: [Tc G, l D]
// cmp_tokens: [Tc] i32, first(i)   token_blocks: [N, 2] i32, the blocks [begin, end) that contain t:
//   NsaGrid's. Both undefined: one document, Tc = NumCompressed(N), first(i) = i d
// Sums in the accumulation type, rounded once, in a fixed order: a document's dx does not depend on
// the others. dx is set, tokens in no complete block get 0; dpos accumulates.
// NSA (arXiv 2502.11089), section 3.3.1.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GatherBlocksFwdArgs {
  TensorRef x, pos, blocks, cmp_tokens = {};
  int64_t block, stride;
};
struct GatherBlocksBwdArgs {
  TensorRef dblocks, dx, dpos, cmp_tokens = {}, token_blocks = {};
  int64_t block, stride;
};
// y[i, g, c] = mean over u of x[first(i) + u, g, c]: phi without parameters. y: [Tc, G, D]. dx is
// set.
struct BlockMeanFwdArgs {
  TensorRef x, y, cmp_tokens = {};
  int64_t block, stride;
};
struct BlockMeanBwdArgs {
  TensorRef dy, dx, token_blocks = {};
  int64_t block, stride;
};

namespace cpu {
void GatherBlocksFwd(const GatherBlocksFwdArgs&, Stream);
void GatherBlocksBwd(const GatherBlocksBwdArgs&, Stream);
void BlockMeanFwd(const BlockMeanFwdArgs&, Stream);
void BlockMeanBwd(const BlockMeanBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void GatherBlocksFwd(const GatherBlocksFwdArgs&, Stream);
void GatherBlocksBwd(const GatherBlocksBwdArgs&, Stream);
void BlockMeanFwd(const BlockMeanFwdArgs&, Stream);
void BlockMeanBwd(const BlockMeanBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void GatherBlocksFwd(const GatherBlocksFwdArgs&, Stream);
void GatherBlocksBwd(const GatherBlocksBwdArgs&, Stream);
void BlockMeanFwd(const BlockMeanFwdArgs&, Stream);
void BlockMeanBwd(const BlockMeanBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
