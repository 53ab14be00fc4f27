// Attention of the newest token of each of several sequences to all that its cache holds, itself
// included. Formula as in core/ops/attention.h.
//   tokens, addresses: core/ops/cache_rows.h; columns `k_column` [s, G, Dk] and the next [s, G, Dv]
//   q: [N, H, Dk] rotated -> o: [N, H, Dv]; only the tokens' rows are read and set
// A sequence at position t has t + 1 keys, at most max_length. Its bits do not depend on the others.
//
// On CUDA the keys of a sequence are split over blocks by a function of its length, and the parts
// merged in order (core/cuda/decode_tiles.cuh: bf16, (Dk, Dv) of (192, 128), (128, 128), (64, 64),
// groups of up to 16 heads); other shapes and f32 take a block a head and sequence.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct DecodeAttentionArgs {
  TensorRef q, tokens, addresses, o;
  double scale;
  int64_t groups, max_length;
  int k_column = 0;
};

namespace cpu {
void DecodeAttention(const DecodeAttentionArgs&, Stream);
}
namespace cuda {
void DecodeAttention(const DecodeAttentionArgs&, Stream);
}
namespace ops {
void DecodeAttention(const DecodeAttentionArgs&, Stream);
}

}  // namespace lacuna
