// lacuna parity: every CUDA kernel of a training step against the CPU's.
#include "recipes/trainer/parity.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "tools/command.h"
#include "tools/ranks.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  int64_t tokens = 512;
};

absl::Status Run(const Options& options) {
  UseThreads(0, {});
  LACUNA_ASSIGN_OR_RETURN(const Recipe recipe, LoadRecipe(options.recipe, options.overrides, 1));
  LACUNA_ASSIGN_OR_RETURN(const ParityResult result, CheckParity(recipe, options.tokens));
  fmt::print(
      "{}\nerror: ||ours - exact|| / ||exact||, exact being the CPU in f64 on the same "
      "inputs; of whole numbers, the share that differs\n",
      result.table);
  if (result.passed) return absl::OkStatus();
  return MakeError(ExitCode::kNumerics, "parity: a CUDA kernel is out of tolerance (FAILED above)");
}

}  // namespace

void AddParityCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("parity", "Compare every CUDA kernel of a training step with the CPU's");
  command->add_option("recipe", options->recipe, "Recipe, a YAML file; its data is used")
      ->required();
  command
      ->add_option("--set", options->overrides,
                   "Override a key: section.key=value (may be repeated)")
      ->allow_extra_args(false);
  command
      ->add_option("--tokens", options->tokens,
                   "Of the first sample; the CPU computes them twice, in f64 and in the dtype")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->footer(
      "Example: lacuna parity recipes/quickstart.yaml --tokens 1024 --set train.dtype=bf16");
  command->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
