#include "recipes/trainer/memory_advice.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "recipes/plan/memory.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/trainer/recipe_diff.h"

namespace lacuna {
namespace {

// What is needed of a category, and the part of the plan that it is.
struct Need {
  double bytes = 0;
  int64_t (*planned)(const RankMemory&) = nullptr;
};

using Needs = std::vector<Need>;

Needs NeedsOf(const Recipe& recipe, int64_t ranks, const OutOfMemory& request) {
  const RankMemory plan = EstimateMemory(recipe, ranks);
  const auto need = [&](std::initializer_list<MemoryCategory> categories,
                        int64_t (*planned)(const RankMemory&)) {
    int64_t held = 0;
    for (const MemoryCategory category : categories) {
      held += request.stats.of(category).in_use;
      if (category == request.category) held += request.bytes;
    }
    return Need{static_cast<double>(std::max(held, planned(plan))), planned};
  };
  return {
      need({MemoryCategory::kParameters}, [](const RankMemory& m) { return m.weights; }),
      need({MemoryCategory::kGradients}, [](const RankMemory& m) { return m.gradients; }),
      need({MemoryCategory::kOptimizer}, [](const RankMemory& m) { return m.master + m.moments; }),
      need({MemoryCategory::kActivations}, [](const RankMemory& m) { return m.activations; }),
      need({MemoryCategory::kRecomputed, MemoryCategory::kActivationGradients,
            MemoryCategory::kLogits, MemoryCategory::kWorkspace},
           [](const RankMemory& m) { return m.transient; }),
      need({MemoryCategory::kCommunication},
           [](const RankMemory& m) { return m.all_to_all + m.context + m.sharding; })};
}
constexpr size_t kStates = 3;  // of Needs: parameters, gradients, optimizer

double Saving(const Needs& needs, const Recipe& now, const Recipe& changed, int64_t ranks) {
  const RankMemory before = EstimateMemory(now, ranks), after = EstimateMemory(changed, ranks);
  double saving = 0;
  for (const Need& need : needs) {
    const auto planned = static_cast<double>(need.planned(before));
    if (planned > 0)
      saving += need.bytes * (1 - static_cast<double>(need.planned(after)) / planned);
  }
  return saving;
}

struct Change {
  std::string key, here, there;
  const char* price = "";
  double saving = 0;
  bool may_resume = false;
};

// nullopt where the recipe's rules refuse it, there is no such key, or it is so already.
std::optional<Change> Try(const Recipe& recipe, int64_t ranks, const Needs& needs,
                          const std::string& override, const char* price) {
  const auto changed = ParseRecipe(ToYaml(recipe), "recipe", {override}, ranks);
  if (!changed.ok() || !CheckMesh(*changed, ranks).ok()) return std::nullopt;
  const std::vector<RecipeDifference> differences = DiffRecipes(recipe, ToYaml(*changed));
  if (differences.size() != 1) return std::nullopt;
  const auto& [key, here, there] = differences[0];
  return Change{.key = key,
                .here = here,
                .there = there,
                .price = price,
                .saving = Saving(needs, recipe, *changed, ranks),
                .may_resume = CheckSameRun(*changed, ToYaml(recipe), "", {}).ok()};
}

// More ranks to a layer's experts, shares instead of copies.
void ConsiderParallel(const Recipe& recipe, int64_t ranks,
                      const std::function<bool(const std::string&, const char*)>& consider) {
  const ParallelConfig& parallel = recipe.parallel;
  for (int64_t expert = ranks; expert > parallel.expert; --expert) {
    if (consider(fmt::format("parallel.expert={}", expert), "tokens travel to the experts' ranks"))
      break;
  }
  if (parallel.zero < 2) consider("parallel.zero=2", "gradients travel with every micro-batch");
  if (parallel.zero < 3) consider("parallel.zero=3", "weights travel, too, forward and backward");
}

std::vector<Change> ChangesThatHelp(const Recipe& recipe, int64_t ranks, const Needs& needs,
                                    Device device) {
  std::vector<Change> changes;
  const auto consider = [&](const std::string& override, const char* price) {
    const std::optional<Change> change = Try(recipe, ranks, needs, override, price);
    if (change && change->saving >= 1) changes.push_back(*change);
    return change.has_value();
  };
  const TrainConfig& train = recipe.train;
  // The next smaller one that divides the batches.
  for (int64_t fewer = train.micro_batch / 2; fewer >= 1; --fewer) {
    if (consider(fmt::format("train.micro_batch={}", fewer), "the same step in more micro-batches"))
      break;
  }
  if (train.recompute.block) {
    consider("train.recompute=[attention, feed_forward]",
             "smaller segments run forward again, more is kept");
  } else {
    consider("train.recompute=block",
             "blocks run forward again in backward, up to a third more compute");
  }
  if (train.recompute.keeps_attention())
    consider("train.recompute_keeps=none", "attention runs forward again, too");
  consider("optimizer.moments=bf16", "moments rounded to bf16");
  ConsiderParallel(recipe, ranks, consider);
  if (train.dtype == DType::kF64) consider("train.dtype=f32", "single precision");
  if (train.dtype == DType::kF32 && device.type == DeviceType::kCuda)
    consider("train.dtype=bf16", "bf16 kernels, f32 master weights");
  consider(fmt::format("train.sequence_length={}", train.sequence_length / 2),
           "other samples, a run of its own");
  std::stable_sort(changes.begin(), changes.end(),
                   [](const Change& a, const Change& b) { return a.saving > b.saving; });
  return changes;
}

std::string ModelSize(const Recipe& recipe) {
  std::string keys = fmt::format("model.num_layers = {}, model.width = {}", recipe.model.num_layers,
                                 recipe.model.width);
  if (recipe.uses_moe()) {
    keys += fmt::format(", moe.num_experts = {}, moe.expert_width = {}", recipe.moe.num_experts,
                        recipe.moe.expert_width);
  }
  return keys;
}

}  // namespace

std::string MemoryAdvice(const Recipe& recipe, int64_t ranks, const OutOfMemory& request) {
  const Needs needs = NeedsOf(recipe, ranks, request);
  std::string lines;
  if (request.limit > 0) {
    lines += fmt::format("  train.memory_limit_gib: {} is what this run may use\n",
                         recipe.train.memory_limit_gib);
  }
  const std::vector<Change> changes = ChangesThatHelp(recipe, ranks, needs, request.device);
  for (const Change& change : changes) {
    lines += fmt::format("  {:<54} saves about {:>10}; {}{}\n",
                         fmt::format("{}: {} -> {}", change.key, change.here, change.there),
                         FormatMemory(static_cast<int64_t>(change.saving)), change.price,
                         change.may_resume ? "; --resume accepts it" : "");
  }
  if (request.stats.of(MemoryCategory::kCommunication).in_use > request.stats.in_use / 20) {
    lines += fmt::format("  train.bucket_mb: {}, smaller buckets of gradients\n",
                         recipe.train.bucket_mb);
  }
  double states = 0, all = 0;
  for (size_t i = 0; i < needs.size(); ++i) {
    if (i < kStates) states += needs[i].bytes;
    all += needs[i].bytes;
  }
  if (2 * states >= all || changes.empty())
    lines += fmt::format("  a smaller model: {}\n", ModelSize(recipe));
  return "what helps, most first (estimates):\n" + lines;
}

}  // namespace lacuna
