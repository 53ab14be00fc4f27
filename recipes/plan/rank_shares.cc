#include "recipes/plan/rank_shares.h"

#include <utility>

#include "core/status.h"
#include "recipes/plan/model_size.h"

namespace lacuna {

absl::Status CheckMesh(const Recipe& recipe, int64_t ranks) {
  for (const auto& [key, group] : {std::pair{"expert", recipe.parallel.expert},
                                   std::pair{"context", recipe.parallel.context}}) {
    if (ranks % group == 0) continue;
    return ConfigError(
        "parallel.{} = {}: must divide the number of ranks, {} (mpirun -n; lacuna plan --ranks)",
        key, group, ranks);
  }
  return absl::OkStatus();
}

RankShares SharesOf(const Recipe& recipe, int64_t ranks) {
  const ParameterCounts n = CountParameters(recipe);
  const ParallelConfig& parallel = recipe.parallel;
  const int64_t others = n.total() - n.routed_experts, share = (others + ranks - 1) / ranks;
  const int64_t experts = n.routed_experts / parallel.expert, replicas = ranks / parallel.expert;
  return {.experts = experts,
          .expert_updates = parallel.zero >= 2 ? (experts + replicas - 1) / replicas : experts,
          .others = others,
          .other_weights = parallel.zero >= 3 ? share : others,
          .other_updates = parallel.zero >= 2 ? share : others,
          .expert_replicas = replicas};
}

double KeysAndValues(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  return static_cast<double>((recipe.uses_nsa() ? 3 : 1) * m.num_groups *
                             (m.head_dim_qk + m.head_dim_v));
}

double ExpectedDestinations(const Recipe& recipe) {
  const int64_t experts = recipe.moe.num_experts, ranks = recipe.parallel.expert;
  const int64_t elsewhere = experts - experts / ranks;
  double none = 1;  // the chance that none of a rank's experts is chosen
  for (int64_t k = 0; k < recipe.moe.experts_per_token; ++k)
    none *= static_cast<double>(elsewhere - k) / static_cast<double>(experts - k);
  return static_cast<double>(ranks) * (1 - (elsewhere < recipe.moe.experts_per_token ? 0 : none));
}

double ExpectedRemoteDestinations(const Recipe& recipe) {
  const auto ranks = static_cast<double>(recipe.parallel.expert);
  return ExpectedDestinations(recipe) * (ranks - 1) / ranks;
}

}  // namespace lacuna
