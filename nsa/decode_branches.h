// NSA's three branches and their gated sum for the newest token of each of several sequences, itself
// included, over the sequences' caches (nsa/nsa_cache.h). NSA (arXiv 2502.11089), section 3.
//   o = gate_cmp Attn(q, all compressed rows) + gate_slc Attn(q, the chosen blocks)
//     + gate_win Attn(q, the window's ring);  blocks as in nsa/select_blocks.h
// tokens, addresses: core/ops/cache_rows.h, columns as in CacheColumn
// q: [N, H, Dk] rotated   gate: [N, H, 3] accumulation type   o: [N, H, Dv]; of these only the tokens'
//   rows are read and set   blocks: [B, G, n] i32
// A sequence at position t has t + 1 tokens, at most max_length. Its bits do not depend on the others.
//
// On CUDA one launch: a cluster a (sequence, group) on Hopper (nsa/cuda/hopper/decode_branches.cuh),
// a block elsewhere.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

// Tensors of a sequence: [s, G, D] rotated; [Tc, G, D]; rings [w, G, D], row t mod w; unrotated rings
// [l, G, D], row t mod l.
enum CacheColumn : int {
  kKeySlc,
  kValueSlc,
  kKeyCmp,
  kValueCmp,
  kKeyWin,
  kValueWin,
  kKeyRaw,
  kValueRaw,
  kNumCacheColumns
};

struct DecodeBranchesArgs {
  TensorRef q, gate, tokens, addresses, o, blocks;
  double scale;
  int64_t groups, max_length;
  int64_t block, stride, select_block, num_init, num_local, window;

  // Compressed rows of the longest sequence.
  int64_t max_compressed() const {
    return max_length < block ? 0 : (max_length - block) / stride + 1;
  }
};

namespace cpu {
void DecodeBranches(const DecodeBranchesArgs&, Stream);
}
namespace cuda {
void DecodeBranches(const DecodeBranchesArgs&, Stream);
}
namespace ops {
void DecodeBranches(const DecodeBranchesArgs&, Stream);
}

}  // namespace lacuna
