// What NSA's grids look like for a micro-batch: everything that follows from the documents' lengths
// alone. All grids restart at every document. A document of T tokens has
//   Tc = T < l ? 0 : (T - l) / d + 1   compressed blocks, block i of tokens [i d, i d + l), visible
//     to queries t >= i d + l - 1
//   Ts = ceil(T / l')                  selection blocks
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/packed_sequences.h"
#include "core/row_subset.h"
#include "nsa/nsa_config.h"

namespace lacuna {

// Complete compressed blocks among the first `tokens` tokens of a document.
constexpr int64_t NumCompressed(int64_t tokens, int64_t block, int64_t stride) {
  return tokens < block ? 0 : (tokens - block) / stride + 1;
}

// Queries are all N tokens, or some of them; keys are always all of them. Tensors are on the
// sequences' device.
struct NsaGrid {
  NsaGrid(const PackedSequences& sequences, const NsaConfig& config,
          const RowSubset* queries = nullptr);

  // The grid of these sequences, made once for all layers of these lengths.
  static std::shared_ptr<const NsaGrid> Of(const PackedSequences& sequences,
                                           const NsaConfig& config,
                                           const RowSubset* queries = nullptr);

  int64_t num_compressed() const { return host_cu_cmp.back(); }

  std::vector<int32_t> host_cu_seqlens;  // [D + 1]
  std::vector<int32_t> host_cu_cmp;      // [D + 1] compressed rows before each document
  Tensor cu_seqlens;                     // [D + 1] i32
  Tensor cu_queries;                     // [D + 1] i32, of the queries
  Tensor cu_cmp;                         // [D + 1] i32
  Tensor positions;                      // [queries] i32
  // [Tc] i32, position of a block's last token: where its key is rotated to
  Tensor cmp_positions;
  // Which blocks hold which tokens; undefined where there is one document, which needs no table.
  Tensor cmp_tokens;    // [Tc] i32, row of a block's first token
  Tensor token_blocks;  // [N, 2] i32, compressed rows whose blocks contain a token

  Tensor cmp_ranges;              // [queries, 2] i32, compressed rows that a query sees
  Tensor win_ranges;              // [queries, 2] i32, token rows of a query's window
  int64_t max_select_blocks = 0;  // Ts of the longest document
};

}  // namespace lacuna
