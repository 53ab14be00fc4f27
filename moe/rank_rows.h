// Tokens by rank, where the E experts of a layer are spread over M ranks: rank r has experts
// [r E / M, (r + 1) E / M). A token goes once to each rank that has an expert of its choice, with its
// choices among that rank's experts. Tokens are cut into P chunks by their number: chunk p is those
// from floor(p N / P) to before floor((p + 1) N / P).
//   ranks[n, r]   = p M + r if token n, of chunk p, has a choice of rank r, else -1  (TokenRanks)
// SortByExpert of them (moe/permute.h, may_be_none) gives offsets [P M + 1] and position [N, M], the
// rows by chunk and rank: s = position[n, r].
//   counts[r]     = {rows of chunk 0, ..., rows of chunk P - 1, choices} that go to rank r (RankCounts)
//   sent_ids[s, k] = (ids[n, k] - r E / M) P + p, sent_weights[s, k] = weights[n, k] where choice
//                    (n, k) is of rank r, else -1 and 0                              (SendChoices)
// There, SortByExpert of sent_ids gives the rows by expert, and an expert's by chunk
// (moe/grouped_matmul.h).
//   weights[n, k] = sent_weights[position[n, rank of ids[n, k]], k]                  (ReturnWeights)
// ids, sent_ids: [N, K], [S, K] i32   ranks, position: [N, M] i32   load: [1, E] f64, the choices of
// each expert   counts: [M, P + 1] i64   weights, sent_weights: [N, K], [S, K] f32 or f64. M divides
// E.
// Every output is set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct TokenRanksArgs {
  TensorRef ids, ranks;
  int64_t num_experts;
  int64_t chunks = 1;
};
struct RankCountsArgs {
  TensorRef offsets, load, counts;
};
struct SendChoicesArgs {
  TensorRef ids, weights, position, sent_ids, sent_weights;
  int64_t num_experts;
  int64_t chunks = 1;
};
struct ReturnWeightsArgs {
  TensorRef sent_weights, ids, position, weights;
  int64_t num_experts;
};

// The chunk of a token, and its first token.
LACUNA_HOST_DEVICE inline int64_t ChunkOf(int64_t token, int64_t tokens, int64_t chunks) {
  return ((token + 1) * chunks - 1) / tokens;
}
inline int64_t ChunkBegin(int64_t chunk, int64_t tokens, int64_t chunks) {
  return chunk * tokens / chunks;
}

namespace cpu {
void TokenRanks(const TokenRanksArgs&, Stream);
void RankCounts(const RankCountsArgs&, Stream);
void SendChoices(const SendChoicesArgs&, Stream);
void ReturnWeights(const ReturnWeightsArgs&, Stream);
}  // namespace cpu
namespace cuda {
void TokenRanks(const TokenRanksArgs&, Stream);
void RankCounts(const RankCountsArgs&, Stream);
void SendChoices(const SendChoicesArgs&, Stream);
void ReturnWeights(const ReturnWeightsArgs&, Stream);
}  // namespace cuda
namespace ops {
void TokenRanks(const TokenRanksArgs&, Stream);
void RankCounts(const RankCountsArgs&, Stream);
void SendChoices(const SendChoicesArgs&, Stream);
void ReturnWeights(const ReturnWeightsArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
