#include "moe/rank_rows.h"

#include <algorithm>

#include "core/dispatch.h"
#include "core/error.h"

namespace lacuna::cpu {

void TokenRanks(const TokenRanksArgs& args, Stream) {
  const int64_t ranks = args.ranks.dim(1), per_rank = args.num_experts / ranks,
                chosen = args.ids.dim(1);
  for (int64_t n = 0; n < args.ids.dim(0); ++n) {
    const int64_t first = ChunkOf(n, args.ids.dim(0), args.chunks) * ranks;
    const int32_t* ids = args.ids.As<int32_t>() + n * chosen;
    int32_t* out = args.ranks.As<int32_t>() + n * ranks;
    std::fill(out, out + ranks, -1);
    for (int64_t k = 0; k < chosen; ++k) {
      LACUNA_CHECK(ids[k] >= 0 && ids[k] < args.num_experts, "token_ranks: expert {} of {}", ids[k],
                   args.num_experts);
      const int64_t rank = ids[k] / per_rank;
      out[rank] = static_cast<int32_t>(first + rank);
    }
  }
}

void RankCounts(const RankCountsArgs& args, Stream) {
  const int64_t ranks = args.counts.dim(0), per_rank = args.load.dim(1) / ranks,
                chunks = args.counts.dim(1) - 1;
  const int64_t* offsets = args.offsets.As<int64_t>();
  for (int64_t r = 0; r < ranks; ++r) {
    const double* load = args.load.As<double>() + r * per_rank;
    double choices = 0;
    for (int64_t e = 0; e < per_rank; ++e) choices += load[e];
    int64_t* counts = args.counts.As<int64_t>() + (chunks + 1) * r;
    for (int64_t p = 0; p < chunks; ++p)
      counts[p] = offsets[p * ranks + r + 1] - offsets[p * ranks + r];
    counts[chunks] = static_cast<int64_t>(choices);
  }
}

void SendChoices(const SendChoicesArgs& args, Stream) {
  DispatchAccumulation(args.weights.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t ranks = args.position.dim(1), per_rank = args.num_experts / ranks,
                  chosen = args.ids.dim(1);
    for (int64_t i = 0; i < args.position.numel(); ++i) {
      const int32_t row = args.position.As<int32_t>()[i];
      if (row < 0) continue;
      const int64_t n = i / ranks, rank = i % ranks,
                    chunk = ChunkOf(n, args.ids.dim(0), args.chunks);
      for (int64_t k = 0; k < chosen; ++k) {
        const int32_t id = args.ids.As<int32_t>()[n * chosen + k];
        const bool here = id / per_rank == rank;
        args.sent_ids.As<int32_t>()[row * chosen + k] =
            here ? static_cast<int32_t>((id - rank * per_rank) * args.chunks + chunk) : -1;
        args.sent_weights.As<T>()[row * chosen + k] =
            here ? args.weights.As<T>()[n * chosen + k] : T(0);
      }
    }
  });
}

void ReturnWeights(const ReturnWeightsArgs& args, Stream) {
  DispatchAccumulation(args.weights.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t ranks = args.position.dim(1), per_rank = args.num_experts / ranks,
                  chosen = args.ids.dim(1);
    for (int64_t i = 0; i < args.ids.numel(); ++i) {
      const int64_t rank = args.ids.As<int32_t>()[i] / per_rank;
      const int64_t row = args.position.As<int32_t>()[i / chosen * ranks + rank];
      args.weights.As<T>()[i] = args.sent_weights.As<T>()[row * chosen + i % chosen];
    }
  });
}

}  // namespace lacuna::cpu
