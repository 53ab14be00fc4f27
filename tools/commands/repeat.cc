// lacuna repeat: does a training step give the same bits every time, and if not, in which kernel?
#include "recipes/trainer/repeat.h"

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
  RepeatOptions repeat;
};

absl::Status Run(const Options& options) {
  UseThreads(0, {});
  LACUNA_ASSIGN_OR_RETURN(const Recipe recipe, LoadRecipe(options.recipe, options.overrides, 1));
  LACUNA_ASSIGN_OR_RETURN(const RepeatResult result, RepeatStep(recipe, options.repeat));
  fmt::print("{}", result.text);
  if (result.passed) return absl::OkStatus();
  return MakeError(ExitCode::kNumerics,
                   "repeat: the same step gave other bits: a kernel's warps race, or the device "
                   "computes wrongly now and then (on another device: which of the two)");
}

}  // namespace

void AddRepeatCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "repeat", "Do the same step many times and name the first kernel that gave other bits");
  RepeatOptions& repeat = options->repeat;
  command->add_option("recipe", options->recipe, "Recipe, a YAML file; its data is used")
      ->required();
  command
      ->add_option("--set", options->overrides,
                   "Override a key: section.key=value (may be repeated)")
      ->allow_extra_args(false);
  command->add_option("--passes", repeat.passes, "Forward and backward passes of one micro-batch")
      ->check(CLI::Range(2, 1 << 30))
      ->capture_default_str();
  command->add_option("--seconds", repeat.seconds, "Stop after so many (0: only after --passes)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--sample", repeat.first_sample, "First sample of the micro-batch")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--forward-only", repeat.forward_only, "Without backward: more passes");
  command
      ->add_option("--delays", repeat.delays,
                   "Delay the warps of Hopper kernels at random, by this seed (0: not)")
      ->capture_default_str();
  command->footer("Example: lacuna repeat recipes/300m/pretrain_8k.yaml --passes 1000 --delays 1");
  command->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
