// The overlapping compression blocks of a document, one a row, as phi's first matrix product wants
// them.
//   blocks[i G + g, u D + c] = x[first + i d + u, g, c] + pos[u, c],   u <
//     l          (GatherBlocksFwd)
//   dx[t, g, c] = sum over the blocks i that contain t, ascending, of dblocks[i G + g, (t - i d) D
//     + c]
//   dpos[u, c] += sum over i, g of dblocks[i G + g, u D +
//     c]                           (GatherBlocksBwd)
// x, dx: rows of one document [T, G, D]   pos: [l, D] or undefined   blocks: [Tc G, l D], Tc =
//   NumCompressed(T)
// Sums in the accumulation type, rounded once. dx is set, tokens in no complete block get 0; dpos
// accumulates.
// NSA (arXiv 2502.11089), section 3.3.1.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GatherBlocksFwdArgs {
  TensorRef x, pos, blocks;
  int64_t block, stride;
};
struct GatherBlocksBwdArgs {
  TensorRef dblocks, dx, dpos;
  int64_t block, stride;
};
// y[i, g, c] = mean over u of x[i d + u, g, c]: phi without parameters. y: [Tc, G, D]. dx is set.
struct BlockMeanFwdArgs {
  TensorRef x, y;
  int64_t block, stride;
};
struct BlockMeanBwdArgs {
  TensorRef dy, dx;
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
