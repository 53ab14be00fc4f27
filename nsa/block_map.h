// Which tokens a compressed block covers and which blocks contain a token, for kernels. From
// NsaGrid's tables; of one document (no tables) from the lengths.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct BlockRange {
  int64_t begin, end;
};

// The blocks, of a document's `blocks`, that contain its token t.
LACUNA_HOST_DEVICE inline BlockRange BlocksWithToken(int64_t t, int64_t blocks, int64_t block,
                                                     int64_t stride) {
  const int64_t begin = t < block ? 0 : (t - block) / stride + 1, end = t / stride + 1;
  return {begin, end < blocks ? end : blocks};
}

struct BlockMap {
  BlockMap(const TensorRef& cmp_tokens, const TensorRef& token_blocks, int64_t blocks,
           int64_t block, int64_t stride)
      : cmp_tokens(cmp_tokens.As<int32_t>()),
        token_blocks(token_blocks.As<int32_t>()),
        blocks(blocks),
        block(static_cast<int>(block)),
        stride(static_cast<int>(stride)) {}

  // The row of block i's first token.
  LACUNA_HOST_DEVICE int64_t FirstToken(int64_t i) const {
    return cmp_tokens == nullptr ? i * stride : cmp_tokens[i];
  }
  // The blocks that contain the token of row t, ascending.
  LACUNA_HOST_DEVICE BlockRange Containing(int64_t t) const {
    if (token_blocks == nullptr) return BlocksWithToken(t, blocks, block, stride);
    return {token_blocks[2 * t], token_blocks[2 * t + 1]};
  }

  const int32_t *cmp_tokens, *token_blocks;
  int64_t blocks;  // of all documents
  int block, stride;
};

}  // namespace lacuna
