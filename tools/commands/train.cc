// lacuna train: runs a recipe, alone or under mpirun.
#include <memory>
#include <string>
#include <vector>

#include "recipes/trainer/trainer.h"
#include "tools/command.h"
#include "tools/ranks.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  TrainOptions train;
};

absl::Status Run(const Options& options) {
  const LaunchedRank launched = FromLauncher();
  absl::StatusOr<Recipe> recipe = LoadRecipe(options.recipe, options.overrides, launched.ranks);
  if (!recipe.ok()) return FromUnconnectedLeader(recipe.status(), launched.rank);
  UseThreads(recipe->train.threads, launched);
  return OnRanks(
      [&](const std::shared_ptr<Communicator>& comm) {
        return Train(*recipe, options.train, comm);
      },
      recipe->parallel.timeout_seconds);
}

}  // namespace

void AddTrainCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* train = app.add_subcommand("train", "Runs a recipe");
  train->add_option("recipe", options->recipe, "YAML recipe")->required();
  train
      ->add_option("--set", options->overrides,
                   "section.key=value, in place of the recipe's; may be repeated")
      ->expected(1)
      ->take_all();
  train->add_flag("--resume", options->train.resume,
                  "continue from the latest good checkpoint in run.dir");
  train
      ->add_option("--allow", options->train.allow,
                   "section.key that may differ from the checkpoint's recipe")
      ->expected(1)
      ->take_all();
  train->footer(
      "Example:\n  mpirun -n 2 --bind-to none lacuna train recipes/quickstart.yaml --set "
      "train.steps=100\n\n"
      "SIGUSR1 to mpirun, or SIGTERM, SIGINT or SIGUSR1 to the ranks: a checkpoint is saved at the "
      "end of the step, and the exit code is\n"
      "128 + the signal. mpirun itself passes SIGTERM on and kills soon after; --mca "
      "odls_base_sigkill_timeout 60 makes it wait.");
  train->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
