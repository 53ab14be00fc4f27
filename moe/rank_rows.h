// Tokens by rank, where the E experts of a layer are spread over M ranks: rank r has experts
// [r E / M, (r + 1) E / M). A token goes once to each rank that has an expert of its choice, with its
// choices among that rank's experts.
//   ranks[n, r]   = r if token n has a choice of rank r, else -1                     (TokenRanks)
// SortByExpert of them (moe/permute.h, may_be_none) gives offsets [M + 1] and position [N, M], the
// rows by rank: s = position[n, r].
//   counts[r]     = {rows, choices} that go to rank r                                (RankCounts)
//   sent_ids[s, k] = ids[n, k] - r E / M, sent_weights[s, k] = weights[n, k] where choice (n, k) is
//                    of rank r, else -1 and 0                                        (SendChoices)
//   weights[n, k] = sent_weights[position[n, rank of ids[n, k]], k]                  (ReturnWeights)
// ids, sent_ids: [N, K], [S, K] i32   ranks, position: [N, M] i32   load: [1, E] f64, the choices of
// each expert   counts: [M, 2] i64   weights, sent_weights: [N, K], [S, K] f32 or f64. M divides E.
// Every output is set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct TokenRanksArgs {
  TensorRef ids, ranks;
  int64_t num_experts;
};
struct RankCountsArgs {
  TensorRef offsets, load, counts;
};
struct SendChoicesArgs {
  TensorRef ids, weights, position, sent_ids, sent_weights;
  int64_t num_experts;
};
struct ReturnWeightsArgs {
  TensorRef sent_weights, ids, position, weights;
  int64_t num_experts;
};

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
