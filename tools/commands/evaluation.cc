#include "tools/commands/evaluation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "core/parallel.h"
#include "core/status.h"
#include "recipes/evaluation/report.h"
#include "recipes/trainer/device.h"

namespace lacuna::tools {

CLI::App* AddEvaluation(CLI::App* eval, const char* name, const char* about, RunArguments* run) {
  CLI::App* command = eval->add_subcommand(name, about);
  command->add_option("run_dir", run->run_dir, "Folder of the run (run.dir of its recipe)")
      ->required();
  command->add_option("--step", run->step, "Checkpoint of this step (default: the latest good)");
  command
      ->add_option("--set", run->overrides, "Override a key of the recipe: --set section.key=value")
      ->allow_extra_args(false);
  command->add_option("--output", run->output,
                      fmt::format("File of the results (default: RUN_DIR/eval/{}.json)", name));
  command->add_option("--threads", run->threads, "CPU threads (default: all)");
  AddDeviceOption(command, &run->device);
  return command;
}

absl::StatusOr<LoadedModel> LoadEvaluated(const RunArguments& run) {
  if (run.threads > 0) SetNumThreads(run.threads);
  LACUNA_ASSIGN_OR_RETURN(
      LoadedModel loaded,
      LoadModel(run.run_dir, run.step, {.overrides = run.overrides, .device = run.device}));
  fmt::print("{}: step {}{}, on {}\n", run.run_dir, loaded.state.step,
             run.overrides.empty() ? "" : fmt::format(", {}", fmt::join(run.overrides, ", ")),
             Describe(loaded.model.model->device()));
  return loaded;
}

absl::Status ReportEvaluation(const RunArguments& run, const char* name, const LoadedModel& loaded,
                              const nlohmann::ordered_json& results) {
  nlohmann::ordered_json report = ReportHeader(name, loaded, run.run_dir, run.overrides);
  report.update(results);
  const std::string path = ReportPath(run.run_dir, name, run.output);
  LACUNA_RETURN_IF_ERROR(WriteReport(path, report));
  fmt::print("\nwritten to {}\n", path);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ValidationSet>> OpenValidationSet(const LoadedModel& loaded,
                                                                 size_t i, int64_t length) {
  return ValidationSet::Open(loaded.recipe.data.validation[i], length,
                             loaded.recipe.model.vocab_size, loaded.state.tokenizer_hash);
}

}  // namespace lacuna::tools
