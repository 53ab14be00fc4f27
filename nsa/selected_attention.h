// Attention to the selected blocks: query t of a document attends the tokens u <= t of blocks[t,
// g], a block j being the document's tokens [l' j, l' j + l'). Formula and gradients as in
// core/ops/attention.h, over these keys. The list carries no gradient.
// NSA (arXiv 2502.11089), section 3.3.2.
//
// q: [N, H, Dk] rotated   k: [M, G, Dk] rotated   v: [M, G, Dv]   o, d_o: [N, H, Dv]   lse: [N, H]
//   accumulation type
// blocks: [N, G, n] i32, ascending, -1 behind the last   positions: [N] i32 of the queries within
//   their documents
// cu_queries, cu_keys: [D + 1] i32, the documents' rows in q and in k (the same in training; a
// cache has more keys) dk, dv are set, dq is set or added to. Equal inputs give a packed document the bits it gives
// alone, for any number of threads.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct SelectedAttentionFwdArgs {
  TensorRef q, k, v, blocks, positions, cu_queries, cu_keys, o, lse;
  // All four or none: o_sum = the gated sum of o and the other branches' (nsa/gate_combine.h).
  TensorRef gate = {}, o_cmp = {}, o_win = {}, o_sum = {};
  double scale;
  int64_t select_block;
};
struct SelectedAttentionBwdArgs {
  TensorRef q, k, v, blocks, positions, cu_queries, cu_keys, o, lse, d_o, dq, dk, dv;
  TensorRef delta = {};  // [N, H] do . o; made of d_o and o where it is left out
  double scale;
  int64_t select_block;
  bool add_dq = false;
  // Where dk and dv are made, on CUDA: another stream than dq's (core/side_stream.h), delta being
  // given, or the same one.
  Stream key_stream = {};
};

namespace cpu {
void SelectedAttentionFwd(const SelectedAttentionFwdArgs&, Stream);
void SelectedAttentionBwd(const SelectedAttentionBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void SelectedAttentionFwd(const SelectedAttentionFwdArgs&, Stream);
void SelectedAttentionBwd(const SelectedAttentionBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void SelectedAttentionFwd(const SelectedAttentionFwdArgs&, Stream);
void SelectedAttentionBwd(const SelectedAttentionBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
