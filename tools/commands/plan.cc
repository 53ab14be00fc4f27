// lacuna plan: what a recipe will cost, before anything is allocated.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/status.h"
#include "recipes/plan/rank_shares.h"
#include "recipes/plan/report.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/memory_check.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  int64_t ranks = 0;
  std::string device;
  double overload = kPlannedOverload;
  int64_t hosts = 1;
  double host_memory = 0;
  bool keys = false;
  bool resolved = false;
};

absl::Status Plan(const Options& options) {
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
  if (ranks % options.hosts != 0)
    return ConfigError("--hosts {}: must divide the number of ranks, {}", options.hosts, ranks);
  LACUNA_RETURN_IF_ERROR(load(ranks).status());  // the batch is shared by all of them
  if (options.resolved) {
    std::fputs(ToYaml(recipe).c_str(), stdout);
    return absl::OkStatus();
  }
  const PlannedDevice* device = FindPlannedDevice(options.device);
  const PlanOptions plan = {.ranks = ranks,
                            .overload = options.overload,
                            .device = device,
                            .hosts = options.hosts,
                            .host_memory_gib = options.host_memory};
  std::fputs(PlanText(recipe, plan).c_str(), stdout);
  if (device == nullptr) return absl::OkStatus();
  std::fflush(stdout);  // the verdict goes to stderr, behind it
  return CheckMemory(recipe, ranks, device->name,
                     static_cast<int64_t>(device->memory_gib * (1 << 30)), options.overload);
}

}  // namespace

void AddPlanCommand(CLI::App& app, Runner& run) {
  auto options = std::make_shared<Options>();
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
  std::vector<std::string> devices;
  for (const PlannedDevice& device : PlannedDevices()) devices.emplace_back(device.key);
  command
      ->add_option("--device", options->device,
                   "Card of a rank: does it fit, how long does a step take")
      ->check(CLI::IsMember(devices));
  command
      ->add_option("--overload", options->overload,
                   "Rows of the fullest rank's experts over the mean, where parallel.expert > 1")
      ->check(CLI::Range(1.0, 1e4))
      ->capture_default_str();
  command->add_option("--hosts", options->hosts, "Hosts that the ranks are on, as many on each")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  command
      ->add_option("--host-memory", options->host_memory,
                   "GiB of a host: is there room for the copies that saves in the background need")
      ->check(CLI::Range(1e-3, 1e9));
  command->add_flag("--keys", options->keys,
                    "Print every key of a recipe with its default, type and meaning");
  command->add_flag("--resolved", options->resolved,
                    "Print the recipe with every key and override filled in");
  command->footer(
      "Example: lacuna plan recipes/quickstart.yaml --ranks 2 --set train.sequence_length=4096\n"
      "         lacuna plan recipes/nsa_27b/pretrain_8k.yaml --ranks 8 --device h200\n\n"
      "With --device the exit code is 2 where a rank does not fit, and the keys that would help "
      "follow.");
  command->callback([options, &run] { run = [options] { return Plan(*options); }; });
}

}  // namespace lacuna::tools
