// lacuna plan: what a recipe will cost, before anything is allocated.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "recipes/plan/mesh.h"
#include "recipes/plan/report.h"
#include "recipes/schema/recipe.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct PlanOptions {
  std::string recipe;
  std::vector<std::string> overrides;
  int64_t ranks = 0;
  bool keys = false;
  bool resolved = false;
};

absl::Status Plan(const PlanOptions& options) {
  if (options.keys) {
    std::fputs(KeysText().c_str(), stdout);
    return absl::OkStatus();
  }
  if (options.recipe.empty()) return ConfigError("plan: give a recipe, or --keys");
  const auto load = [&](int64_t ranks) {
    return LoadRecipe(options.recipe, options.overrides, ranks);
  };
  LACUNA_ASSIGN_OR_RETURN(Recipe recipe, load(std::max<int64_t>(1, options.ranks)));
  const int64_t ranks = options.ranks > 0 ? options.ranks : recipe.parallel.expert;
  LACUNA_RETURN_IF_ERROR(CheckMesh(recipe, ranks));
  LACUNA_RETURN_IF_ERROR(load(ranks).status());  // the batch is shared by all of them
  std::fputs((options.resolved ? ToYaml(recipe) : PlanText(recipe, ranks)).c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

void AddPlanCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command = app.add_subcommand(
      "plan", "Check a recipe; print its parameters, FLOPs, memory and sparsity");
  command->add_option("recipe", options->recipe, "Recipe, a YAML file");
  command
      ->add_option("--set", options->overrides,
                   "Override a key: section.key=value (may be repeated)")
      ->allow_extra_args(false);
  command
      ->add_option("--ranks", options->ranks,
                   "Ranks that the run would have; parallel.expert where this is not given")
      ->check(CLI::Range(1, 1 << 20));
  command->add_flag("--keys", options->keys,
                    "Print every key of a recipe with its default, type and meaning");
  command->add_flag("--resolved", options->resolved,
                    "Print the recipe with every key and override filled in");
  command->footer(
      "Example: lacuna plan recipes/quickstart.yaml --ranks 2 --set train.sequence_length=4096");
  command->callback([options, &run] { run = [options] { return Plan(*options); }; });
}

}  // namespace lacuna::tools
