// Differentiable attention; core/ops/attention.h has the formula.
#pragma once

#include "autograd/tape.h"
#include "core/ops/attention.h"
#include "core/packed_sequences.h"
#include "core/row_subset.h"

namespace lacuna {

// Rows of the keys of each query, and the documents' rows among queries and keys.
struct AttentionRanges {
  Tensor ranges;      // [N, 2] i32
  Tensor cu_queries;  // [D + 1] i32
  Tensor cu_keys;     // [D + 1] i32
  CausalRows causal = {};
  bool deterministic = true;  // of the backward (core/ops/attention.h)
};

// Causal attention within documents; with window w >= 1 a query sees keys max(0, t - w + 1) .. t,
// with 0 all up to its own. Where `queries` are given, of these rows of the sequences alone. On the
// sequences' device; made once for all who ask with these sequences.
AttentionRanges CausalRanges(const PackedSequences& sequences, int64_t window = 0,
                             const RowSubset* queries = nullptr);

// q [N, H, Dk], k [M, G, Dk], v [M, G, Dv] -> o [N, H, Dv]. `lse` [N, H], if asked for, has no
// gradient. o and lse are costly (Tape::Costly).
Variable AttentionOverRanges(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                             const AttentionRanges& ranges, double scale, Tensor* lse = nullptr);

}  // namespace lacuna
