// What a recipe's model costs, from its sections alone: parameters by part, training FLOPs,
// attention pairs. Nothing is built.
#pragma once

#include <cstdint>

#include "recipes/schema/recipe.h"

namespace lacuna {

// Numbers of parameters. Buffers that no gradient trains (the router's correction bias) do not
// count.
struct ParameterCounts {
  int64_t embeddings = 0;  // token embedding and, unless tied, the head
  int64_t attention = 0;   // q, o and one k and v projection a layer
  int64_t nsa = 0;         // what NSA adds: k and v of two more branches, phi, gates
  int64_t dense_ffn = 0;   // SwiGLU of the dense layers
  int64_t shared_experts = 0;
  int64_t routed_experts = 0;  // all E
  int64_t router = 0;
  int64_t norms = 0;         // two a layer, the final one, QK-norms
  int64_t idle_experts = 0;  // of routed_experts, those that a token does not go through (E - K)

  int64_t total() const {
    return embeddings + attention + nsa + dense_ffn + shared_experts + routed_experts + router +
           norms;
  }
  // The two usual meanings of "active": the experts a token goes through, shared ones included ...
  int64_t active_experts() const { return shared_experts + routed_experts - idle_experts; }
  // ... or everything it goes through, embedding and head included.
  int64_t active() const { return total() - idle_experts; }
};
ParameterCounts CountParameters(const Recipe& recipe);

// Parameters of one phi for heads of width D, its positions included (nsa/phi.h).
int64_t PhiParameters(const NsaConfig& nsa, int64_t head_dim);

// (query, key) pairs of one head in one document of `tokens` tokens, exactly: what is not masked.
struct AttentionPairs {
  int64_t full = 0;  // T (T + 1) / 2
  int64_t cmp = 0;   // queries with the compressed blocks that ended before them
  int64_t selected = 0;
  int64_t window = 0;
  int64_t nsa() const { return cmp + selected + window; }
};
AttentionPairs CountPairs(const NsaConfig& nsa, int64_t tokens);

// Floating-point operations of training on one token, forward and backward, a multiply-add as 2; a
// sample is one document of sequence_length tokens (packed ones have fewer pairs). Recomputation,
// norms, softmax and the optimizer do not count.
//   matrices    6 (active parameters - embedding - norms - phi); the head counts once, tied or not
//   phi         6 (matrices of both phi) G Tc / T a layer
//   attention   6 H (Dk + Dv) pairs / T a layer
struct TrainingFlops {
  double matrices = 0;
  double phi = 0;
  double attention = 0;
  double full_attention = 0;  // what `attention` would be with every pair
  double total() const { return matrices + phi + attention; }
};
TrainingFlops FlopsPerToken(const Recipe& recipe);

// Compressed blocks of a document: Tc.
int64_t CompressedBlocks(const NsaConfig& nsa, int64_t tokens);
// Tokens that a query at the end of `tokens` tokens reads of the selected blocks; a multiple of l'
// is cut by the query's own block.
int64_t SelectedTokens(const NsaConfig& nsa, int64_t tokens);
// Tokens of the cache that a decode step reads for one KV head with `tokens` in it, the current one
// included (the paper's Table 4).
int64_t TokensReadPerDecodeStep(const NsaConfig& nsa, int64_t tokens);

}  // namespace lacuna
