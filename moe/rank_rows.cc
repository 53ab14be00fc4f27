#include "moe/rank_rows.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<TokenRanksArgs> kTokenRanks{"token_ranks", "ids =ranks", cpu::TokenRanks,
                                                   LACUNA_IF_CUDA(cuda::TokenRanks)};
constinit const Kernel<RankCountsArgs> kRankCounts{
    "rank_counts", "offsets load =counts", cpu::RankCounts, LACUNA_IF_CUDA(cuda::RankCounts)};
constinit const Kernel<SendChoicesArgs> kSendChoices{
    "send_choices", "ids weights position =sent_ids =sent_weights", cpu::SendChoices,
    LACUNA_IF_CUDA(cuda::SendChoices)};
constinit const Kernel<ReturnWeightsArgs> kReturnWeights{
    "return_weights", "sent_weights ids position =weights", cpu::ReturnWeights,
    LACUNA_IF_CUDA(cuda::ReturnWeights)};

// by_rank: [N, M].
void CheckRanks(const char* op, const TensorRef& ids, const TensorRef& by_rank, int64_t experts,
                int64_t chunks = 1) {
  LACUNA_CHECK(chunks > 0, "{}: {} chunks", op, chunks);
  LACUNA_CHECK(ids.rank == 2 && by_rank.rank == 2 && by_rank.dim(0) == ids.dim(0) &&
                   by_rank.dim(1) > 0 && experts > 0 && experts % by_rank.dim(1) == 0,
               "{}: ids {}, ranks {}, {} experts", op, Describe(ids), Describe(by_rank), experts);
  CheckDType(op, "ids", ids, DType::kI32);
  CheckDType(op, "ranks", by_rank, DType::kI32);
}

// There and back: weights [N, K], sent [S, K].
void CheckWeights(const char* op, const TensorRef& ids, const TensorRef& weights,
                  const TensorRef& sent, const TensorRef& position) {
  CheckShape(op, "weights", weights, {ids.dim(0), ids.dim(1)});
  LACUNA_CHECK(sent.rank == 2 && sent.dim(1) == ids.dim(1) && sent.dim(0) <= position.numel(),
               "{}: sent {}, positions {}", op, Describe(sent), Describe(position));
  LACUNA_CHECK(weights.dtype == AccumulationType(weights.dtype), "{}: weights {}", op,
               Describe(weights));
  CheckDType(op, "sent weights", sent, weights.dtype);
}

}  // namespace

void TokenRanks(const TokenRanksArgs& args, Stream stream) {
  CheckRanks("token_ranks", args.ids, args.ranks, args.num_experts, args.chunks);
  kTokenRanks(args, stream);
}

void RankCounts(const RankCountsArgs& args, Stream stream) {
  constexpr const char* kOp = "rank_counts";
  LACUNA_CHECK(args.counts.rank == 2 && args.load.rank == 2 && args.counts.dim(0) > 0 &&
                   args.counts.dim(1) > 1 && args.load.dim(1) % args.counts.dim(0) == 0,
               "{}: load {}, counts {}", kOp, Describe(args.load), Describe(args.counts));
  CheckShape(kOp, "offsets", args.offsets, {args.counts.dim(0) * (args.counts.dim(1) - 1) + 1});
  CheckShape(kOp, "load", args.load, {1, args.load.dim(1)});
  CheckDType(kOp, "offsets", args.offsets, DType::kI64);
  CheckDType(kOp, "load", args.load, DType::kF64);
  CheckDType(kOp, "counts", args.counts, DType::kI64);
  kRankCounts(args, stream);
}

void SendChoices(const SendChoicesArgs& args, Stream stream) {
  constexpr const char* kOp = "send_choices";
  CheckRanks(kOp, args.ids, args.position, args.num_experts, args.chunks);
  CheckWeights(kOp, args.ids, args.weights, args.sent_weights, args.position);
  CheckShape(kOp, "sent ids", args.sent_ids, {args.sent_weights.dim(0), args.ids.dim(1)});
  CheckDType(kOp, "sent ids", args.sent_ids, DType::kI32);
  kSendChoices(args, stream);
}

void ReturnWeights(const ReturnWeightsArgs& args, Stream stream) {
  constexpr const char* kOp = "return_weights";
  CheckRanks(kOp, args.ids, args.position, args.num_experts);
  CheckWeights(kOp, args.ids, args.weights, args.sent_weights, args.position);
  kReturnWeights(args, stream);
}

}  // namespace lacuna::ops
