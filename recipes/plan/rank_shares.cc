#include "recipes/plan/rank_shares.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/status.h"
#include "recipes/plan/model_size.h"

namespace lacuna {

absl::Status CheckMesh(const Recipe& recipe, int64_t ranks) {
  for (const auto& [key, group] :
       {std::pair{"expert", recipe.parallel.expert}, std::pair{"context", recipe.parallel.context},
        std::pair{"shard", recipe.parallel.shard}}) {
    if (group == 0 || ranks % group == 0) continue;
    return ConfigError(
        "parallel.{} = {}: must divide the number of ranks, {} (mpirun -n; lacuna plan --ranks)",
        key, group, ranks);
  }
  return absl::OkStatus();
}

RankShares SharesOf(const Recipe& recipe, int64_t ranks) {
  const ParameterCounts n = CountParameters(recipe);
  const ParallelConfig& parallel = recipe.parallel;
  const int64_t over = parallel.shard > 0 ? parallel.shard : ranks;
  const int64_t others = n.total() - n.routed_experts, share = (others + over - 1) / over;
  const int64_t experts = n.routed_experts / parallel.expert, replicas = ranks / parallel.expert;
  const bool whole_experts = parallel.expert == 1;
  const int64_t expert_ranks = whole_experts ? over : replicas,
                expert_share = (experts + expert_ranks - 1) / expert_ranks;
  return {.experts = experts,
          .expert_weights = parallel.zero >= 3 && whole_experts ? expert_share : experts,
          .expert_updates = parallel.zero >= 2 ? expert_share : experts,
          .others = others,
          .other_weights = parallel.zero >= 3 ? share : others,
          .other_updates = parallel.zero >= 2 ? share : others,
          .expert_replicas = replicas,
          .share_ranks = over,
          .copies = ranks / over};
}

GatheredWeights GatheredBy(const Recipe& recipe) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const ParameterCounts n = CountParameters(recipe);
  const ModelConfig& m = recipe.model;
  const double head = real(m.vocab_size) * real(m.width), layers = real(m.num_layers);
  const int64_t routed = recipe.parallel.expert == 1 ? n.routed_experts : 0;
  const double sparse = real(n.shared_experts + n.router + routed) /
                        real(std::max<int64_t>(1, m.num_layers - m.num_dense_layers)),
               dense = real(n.dense_ffn) / real(std::max<int64_t>(1, m.num_dense_layers)),
               layer = real(n.attention + n.nsa + n.norms - m.width) / layers +
                       (recipe.uses_moe() ? sparse : dense),
               all = real(n.total() - n.routed_experts + routed);
  return {.head = head,
          .layer = layer,
          .micro_batch =
              2 * all - layer - real(n.embeddings) - real(m.width) + (m.tie_embeddings ? head : 0)};
}

double KeysAndValues(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  return static_cast<double>((recipe.uses_nsa() ? 3 : 1) * m.num_groups *
                             (m.head_dim_qk + m.head_dim_v));
}

RankArrivals ArrivalsOf(int64_t experts, int64_t per_token, int64_t ranks, double factor) {
  const auto real = [](int64_t n) { return static_cast<double>(n); };
  const int64_t here = experts / ranks, away = experts - here;
  // chance[j]: j of the choices so far are of this rank.
  std::vector<double> chance(static_cast<size_t>(per_token) + 1, 0.0);
  chance[0] = 1;
  for (int64_t taken = 0; taken < per_token; ++taken) {
    std::vector<double> next(chance.size(), 0.0);
    for (int64_t j = 0; j <= taken; ++j) {
      const double mine = factor * real(here - j), others = real(away - (taken - j));
      if (mine < 0 || others < 0 || mine + others <= 0) continue;
      const double to_me = mine / (mine + others), now = chance[static_cast<size_t>(j)];
      next[static_cast<size_t>(j) + 1] += now * to_me;
      next[static_cast<size_t>(j)] += now * (1 - to_me);
    }
    chance = next;
  }
  RankArrivals arrivals{.rows = 1 - chance[0]};
  for (size_t j = 0; j < chance.size(); ++j) arrivals.choices += static_cast<double>(j) * chance[j];
  return arrivals;
}

double ArrivalFactor(int64_t experts, int64_t per_token, int64_t ranks, double overload) {
  if (overload == 1) return 1;
  const double wanted = overload * static_cast<double>(per_token) / static_cast<double>(ranks);
  double low = 1, high = 2;
  // Choices grow with it, towards all that there are.
  constexpr double kMost = 1e9;
  while (high < kMost && ArrivalsOf(experts, per_token, ranks, high).choices < wanted) high *= 2;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (ArrivalsOf(experts, per_token, ranks, middle).choices < wanted ? low : high) = middle;
  }
  return high;
}

double ArrivingRows(const Recipe& recipe, double overload) {
  const int64_t experts = recipe.moe.num_experts, chosen = recipe.moe.experts_per_token,
                ranks = recipe.parallel.expert;
  const double factor = ArrivalFactor(experts, chosen, ranks, overload);
  return static_cast<double>(ranks) * ArrivalsOf(experts, chosen, ranks, factor).rows;
}

double ExpectedDestinations(const Recipe& recipe) {
  return ArrivingRows(recipe, 1);
}

double ExpectedRemoteDestinations(const Recipe& recipe) {
  const auto ranks = static_cast<double>(recipe.parallel.expert);
  return ExpectedDestinations(recipe) * (ranks - 1) / ranks;
}

}  // namespace lacuna
