// Index work of an exchange between ranks, a thread an output (a row's choice, a rank): everything
// is read where it stands, so nothing depends on the order of threads. Ids outside count as the
// nearest expert, as in moe/permute.h.
#include "core/cuda/launch.cuh"
#include "moe/rank_rows.h"

namespace lacuna::cuda {
namespace {

// Which rank has an expert, and how the tokens are cut.
struct Spread {
  int experts, ranks;
  int64_t tokens;
  int chunks;

  __device__ int Chunk(int64_t token) const {
    return static_cast<int>(ChunkOf(token, tokens, chunks));
  }

  __device__ int PerRank() const { return experts / ranks; }
  __device__ int Expert(int id) const { return min(max(id, 0), experts - 1); }
  __device__ int Rank(int id) const { return Expert(id) / PerRank(); }
};

__global__ void TokenRanksKernel(const int32_t* ids, int32_t* ranks, int64_t n, int chosen,
                                 Spread spread) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) {
    const int rank = static_cast<int>(i % spread.ranks);
    const int64_t token = i / spread.ranks;
    const int32_t* const of_token = ids + token * chosen;
    bool found = false;
    for (int k = 0; k < chosen; ++k) found |= spread.Rank(of_token[k]) == rank;
    ranks[i] = found ? spread.Chunk(token) * spread.ranks + rank : -1;
  }
}

__global__ void RankCountsKernel(const int64_t* offsets, const double* load, int64_t* counts,
                                 int64_t ranks, int per_rank, int chunks) {
  const int64_t r = GlobalIndex();
  if (r >= ranks) return;
  double choices = 0;
  for (int e = 0; e < per_rank; ++e) choices += load[r * per_rank + e];
  counts += (chunks + 1) * r;
  for (int p = 0; p < chunks; ++p) counts[p] = offsets[p * ranks + r + 1] - offsets[p * ranks + r];
  counts[chunks] = static_cast<int64_t>(choices);
}

__global__ void SendChoicesKernel(const int32_t* ids, const float* weights, const int32_t* position,
                                  int32_t* sent_ids, float* sent_weights, int64_t n, int chosen,
                                  Spread spread) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) {
    const int k = static_cast<int>(i % chosen);
    const int64_t place = i / chosen, token = place / spread.ranks;
    const int rank = static_cast<int>(place % spread.ranks);
    const int64_t row = position[place];
    if (row < 0) continue;
    const int expert = spread.Expert(ids[token * chosen + k]);
    const bool here = expert / spread.PerRank() == rank;
    sent_ids[row * chosen + k] =
        here ? (expert - rank * spread.PerRank()) * spread.chunks + spread.Chunk(token) : -1;
    sent_weights[row * chosen + k] = here ? weights[token * chosen + k] : 0.0f;
  }
}

__global__ void ReturnWeightsKernel(const float* sent_weights, const int32_t* ids,
                                    const int32_t* position, float* weights, int64_t n, int chosen,
                                    Spread spread) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) {
    const int64_t row = position[i / chosen * spread.ranks + spread.Rank(ids[i])];
    weights[i] = sent_weights[row * chosen + i % chosen];
  }
}

Spread SpreadOf(int64_t experts, const TensorRef& by_rank, int64_t chunks = 1) {
  return {static_cast<int>(experts), static_cast<int>(by_rank.dim(1)), by_rank.dim(0),
          static_cast<int>(chunks)};
}

void CheckF32(const TensorRef& weights) {
  if (weights.dtype != DType::kF32)
    Fail(__FILE__, __LINE__, NameOf(weights.dtype), cudaErrorNotSupported);
}

}  // namespace

void TokenRanks(const TokenRanksArgs& args, Stream stream) {
  Launch(TokenRanksKernel, args.ranks.numel(), stream, args.ids.As<int32_t>(),
         args.ranks.As<int32_t>(), args.ranks.numel(), static_cast<int>(args.ids.dim(1)),
         SpreadOf(args.num_experts, args.ranks, args.chunks));
}

void RankCounts(const RankCountsArgs& args, Stream stream) {
  const int64_t ranks = args.counts.dim(0);
  Launch(RankCountsKernel, ranks, stream, args.offsets.As<int64_t>(), args.load.As<double>(),
         args.counts.As<int64_t>(), ranks, static_cast<int>(args.load.dim(1) / ranks),
         static_cast<int>(args.counts.dim(1) - 1));
}

void SendChoices(const SendChoicesArgs& args, Stream stream) {
  CheckF32(args.weights);
  const int64_t chosen = args.ids.dim(1), n = args.position.numel() * chosen;
  Launch(SendChoicesKernel, n, stream, args.ids.As<int32_t>(), args.weights.As<float>(),
         args.position.As<int32_t>(), args.sent_ids.As<int32_t>(), args.sent_weights.As<float>(), n,
         static_cast<int>(chosen), SpreadOf(args.num_experts, args.position, args.chunks));
}

void ReturnWeights(const ReturnWeightsArgs& args, Stream stream) {
  CheckF32(args.weights);
  Launch(ReturnWeightsKernel, args.ids.numel(), stream, args.sent_weights.As<float>(),
         args.ids.As<int32_t>(), args.position.As<int32_t>(), args.weights.As<float>(),
         args.ids.numel(), static_cast<int>(args.ids.dim(1)),
         SpreadOf(args.num_experts, args.position));
}

}  // namespace lacuna::cuda
