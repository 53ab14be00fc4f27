// What has to hold between the sections of a recipe.
#include <fmt/format.h>

#include <algorithm>

#include "recipes/schema/recipe.h"

namespace lacuna {
namespace {

// Bounds of the experts far beyond any model, so that no product of sizes overflows 64 bits.
constexpr int64_t kMaxExperts = 1 << 13;
constexpr int64_t kMaxExpertWidth = 1 << 17;
constexpr int64_t kMaxShared = 1 << 8;

using Violations = std::vector<std::string>;

void CheckExperts(const MoeConfig& moe, Violations* violations) {
  const auto require_at_most = [&](const char* key, int64_t value, int64_t most) {
    if (value > most)
      violations->push_back(fmt::format("moe.{} = {}: must be at most {}", key, value, most));
  };
  require_at_most("num_experts", moe.num_experts, kMaxExperts);
  require_at_most("expert_width", moe.expert_width, kMaxExpertWidth);
  require_at_most("num_shared", moe.num_shared, kMaxShared);
}

void CheckLengths(const Recipe& recipe, Violations* violations) {
  const double context =
      recipe.model.yarn.factor * static_cast<double>(recipe.model.yarn.original_length);
  if (recipe.model.yarn.factor > 1 && static_cast<double>(recipe.train.sequence_length) > context) {
    violations->push_back(
        fmt::format("train.sequence_length = {}: must be at most model.yarn.factor = {} times "
                    "model.yarn.original_length = {}, {} tokens",
                    recipe.train.sequence_length, recipe.model.yarn.factor,
                    recipe.model.yarn.original_length, context));
  }
}

// `context`: parallel.context; where it does not divide the ranks, CheckMesh says so.
void CheckBatch(const TrainConfig& train, int64_t ranks, int64_t context, Violations* violations) {
  if (train.micro_batch < 1 || context < 1) return;  // reported by the section
  const int64_t groups = std::max<int64_t>(1, ranks / context);
  const auto check = [&](const std::string& key, int64_t samples) {
    if (samples < 1) return;
    // Divided instead of multiplied: nothing here has a bound yet.
    if (samples % train.micro_batch == 0 && (samples / train.micro_batch) % groups == 0) return;
    const std::string who = context == 1 ? fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s")
                                         : fmt::format("{} group{} of parallel.context = {} ranks",
                                                       groups, groups == 1 ? "" : "s", context);
    violations->push_back(
        fmt::format("train.{} = {}: must be a multiple of {} times train.micro_batch = {}", key,
                    samples, who, train.micro_batch));
  };
  check("global_batch", train.global_batch);
  for (size_t i = 0; i < train.batch_warmup.size(); ++i)
    check(fmt::format("batch_warmup[{}].global_batch", i), train.batch_warmup[i].global_batch);
}

void CheckSchedule(const OptimizerConfig& optimizer, const TrainConfig& train,
                   Violations* violations) {
  if (train.steps < 1) return;  // reported by the section
  const int64_t decay = optimizer.schedule == Schedule::kWsd ? optimizer.decay_steps : 0;
  if (optimizer.warmup_steps > train.steps) {
    violations->push_back(
        fmt::format("optimizer.warmup_steps = {}: must be at most train.steps = {}",
                    optimizer.warmup_steps, train.steps));
  } else if (decay > train.steps - optimizer.warmup_steps) {
    violations->push_back(
        fmt::format("optimizer.decay_steps = {}: must be at most train.steps = {} less "
                    "optimizer.warmup_steps = {}",
                    decay, train.steps, optimizer.warmup_steps));
  }
}

// What needs the number of ranks, too, is CheckMesh's (recipes/plan/rank_shares.h): a recipe is also read
// where it is not trained.
void CheckParallel(const Recipe& recipe, Violations* violations) {
  const int64_t context = recipe.parallel.context, length = recipe.train.sequence_length;
  if (context > 1 && length >= 1 && length % (2 * context) != 0) {
    violations->push_back(
        fmt::format("parallel.context = {}: twice it must divide train.sequence_length = {}, which "
                    "is cut into as many pieces",
                    context, length));
  }
  const int64_t expert = recipe.parallel.expert, experts = recipe.moe.num_experts;
  if (expert <= 1) return;  // reported by the section
  if (!recipe.uses_moe()) {
    violations->push_back(fmt::format(
        "parallel.expert = {}: must be 1, model.num_dense_layers = {} leaves no block with experts",
        expert, recipe.model.num_dense_layers));
  } else if (experts >= 1 && experts % expert != 0) {
    violations->push_back(
        fmt::format("parallel.expert = {}: must divide moe.num_experts = {}", expert, experts));
  }
}

}  // namespace

void ValidateRecipe(const Recipe& recipe, int64_t ranks, std::vector<std::string>* violations) {
  recipe.run.Validate("run", violations);
  recipe.model.Validate("model", violations);
  if (recipe.uses_nsa()) recipe.nsa.Validate("nsa", violations);
  if (recipe.uses_moe()) {
    recipe.moe.Validate("moe", violations);
    CheckExperts(recipe.moe, violations);
  }
  recipe.data.Validate("data", violations);
  recipe.optimizer.Validate("optimizer", violations);
  recipe.train.Validate("train", violations);
  recipe.parallel.Validate("parallel", violations);
  CheckParallel(recipe, violations);
  CheckLengths(recipe, violations);
  CheckBatch(recipe.train, ranks, recipe.parallel.context, violations);
  CheckSchedule(recipe.optimizer, recipe.train, violations);
}

}  // namespace lacuna
