// lacuna rehearse: one rank of a run on one device.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "recipes/plan/device_table.h"
#include "recipes/rehearsal/rehearsal.h"
#include "recipes/rehearsal/report.h"
#include "tools/command.h"
#include "tools/ranks.h"

namespace lacuna::tools {
namespace {

// Of the cards in the table that were measured: all have these links.
constexpr const char* kLinksOf = "h200";

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  RehearsalOptions rehearsal;
  std::string balance = "uniform";
  double all_to_all = 0, collective = 0, latency = 20;  // GB/s, GB/s, us
  std::string json;
};

absl::StatusOr<double> Balance(const std::string& text) {
  if (text == "uniform") return 1.0;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (!text.empty() && *end == '\0' && value >= 1) return value;
  return ConfigError("--balance {}: must be uniform or a number from 1", text);
}

absl::Status Run(const Options& options) {
  LACUNA_ASSIGN_OR_RETURN(const Recipe recipe,
                          LoadRecipe(options.recipe, options.overrides, options.rehearsal.ranks));
  RehearsalOptions rehearsal = options.rehearsal;
  LACUNA_ASSIGN_OR_RETURN(rehearsal.balance, Balance(options.balance));
  rehearsal.rates = {.all_to_all = 1e9 * options.all_to_all,
                     .collective = 1e9 * options.collective,
                     .latency = 1e-6 * options.latency};
  UseThreads(recipe.train.threads, {});
  LACUNA_ASSIGN_OR_RETURN(const RehearsalResult result, Rehearse(recipe, rehearsal));
  std::fputs(RehearsalText(recipe, rehearsal, result).c_str(), stdout);
  if (options.json.empty()) return absl::OkStatus();
  return WriteFileDurably(options.json, RehearsalJson(recipe, rehearsal, result),
                          ExitCode::kFailure);
}

}  // namespace

void AddRehearseCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
  const PlannedDevice& links = *FindPlannedDevice(kLinksOf);
  options->all_to_all = links.all_to_all / 1e9;
  options->collective = links.collective / 1e9;
  CLI::App* command = app.add_subcommand(
      "rehearse",
      "One rank of a run alone on one device: compute and memory measured, step modelled");
  command->add_option("recipe", options->recipe, "Recipe, a YAML file")->required();
  command
      ->add_option("--set", options->overrides,
                   "Override a key: section.key=value (may be repeated)")
      ->allow_extra_args(false);
  RehearsalOptions& rehearsal = options->rehearsal;
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 20);
  command->add_option("--ranks", rehearsal.ranks, "Ranks of the run")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--rank", rehearsal.rank, "The one that is rehearsed")->capture_default_str();
  command->add_option("--steps", rehearsal.steps, "Steps; the first two are not counted")
      ->check(positive)
      ->capture_default_str();
  command
      ->add_option("--micro-batches", rehearsal.micro_batches,
                   "Micro-batches of a rehearsed step; the report is of the recipe's")
      ->check(positive)
      ->capture_default_str();
  command
      ->add_option("--balance", options->balance,
                   "Rows that this rank's experts get over an even share: uniform, or 1.3")
      ->capture_default_str();
  command->add_flag("--random-data", rehearsal.random_data,
                    "Seeded tokens, one document a sample, instead of the recipe's data");
  const auto rate = CLI::Range(1e-6, 1e6);
  command->add_option("--link", options->all_to_all, "GB/s of a rank's link in all-to-alls")
      ->check(rate)
      ->capture_default_str();
  command
      ->add_option("--collective", options->collective,
                   "GB/s (bus bandwidth) of all other collectives")
      ->check(rate)
      ->capture_default_str();
  command
      ->add_option("--latency", options->latency,
                   "Microseconds that each collective takes at least")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command->add_option("--json", options->json, "Also write the numbers to this file");
  command->footer(
      "Example: lacuna rehearse recipes/nsa_27b/pretrain_8k.yaml --ranks 8 --rank 0 --random-data\n"
      "         lacuna rehearse recipes/nsa_27b/pretrain_8k.yaml --ranks 8 --balance 1.3 --set "
      "train.recompute=none --json rehearsal.json --random-data\n\n"
      "Other ranks are not there: what they would send is made up, and the weights that come out "
      "are no training result.");
  command->callback([options, &run] { run = [options] { return Run(*options); }; });
}

}  // namespace lacuna::tools
