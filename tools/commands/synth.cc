// lacuna synth: problems with verified, written-out solutions.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "data/synth/problem_set.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct SynthArguments {
  SynthSetOptions options;
  std::string levels = "1";
  bool list = false;
  int threads = 0;
};

absl::Status RunSynth(SynthArguments& arguments) {
  if (arguments.list) {
    std::fputs(SynthTasksText().c_str(), stdout);
    return absl::OkStatus();
  }
  if (arguments.options.output.empty())
    return ConfigError("synth: --output: give the folder to write to");
  if (arguments.threads > 0) SetNumThreads(arguments.threads);
  LACUNA_ASSIGN_OR_RETURN(arguments.options.levels, ParseLevels(arguments.levels));
  LACUNA_ASSIGN_OR_RETURN(const std::vector<SynthLevelReport> report,
                          WriteSynthSet(arguments.options));
  std::fputs(ToString(report).c_str(), stdout);
  fmt::print("every answer and every step checked; written to {}\n", arguments.options.output);
  return absl::OkStatus();
}

}  // namespace

void AddSynthCommand(CLI::App& app, Runner& run) {
  auto arguments = std::make_shared<SynthArguments>();
  SynthSetOptions& options = arguments->options;
  CLI::App* command = app.add_subcommand(
      "synth", "Write problems with checked step-by-step solutions, as chats in JSON lines");
  command
      ->add_option("--task", options.tasks,
                   "modular_chain, addition, multiplication, graph_path, recall; several: a,b")
      ->delimiter(',');
  command->add_option("--levels", arguments->levels, "Difficulty: 2 or 1,3 or 1-4")
      ->capture_default_str();
  command
      ->add_option("--count", options.count,
                   "Training problems of each task and level: train.jsonl")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--heldout", options.held_out, "Held-out problems of each: heldout.jsonl")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", options.seed, "Another seed: other problems")
      ->capture_default_str();
  command->add_option("--output", options.output, "Folder of the two files");
  command->add_flag("--overwrite", options.overwrite, "Replace files that are there");
  command->add_flag("--list", arguments->list, "Print the tasks and their levels, write nothing");
  command->add_option("--threads", arguments->threads,
                      "Threads; the files do not depend on it (default: all cores)");
  command->footer(
      "Example: lacuna synth --task modular_chain,graph_path --levels 1-3 --count 20000 --heldout "
      "200 --output .cache/chains");
  command->callback([arguments, &run] { run = [arguments] { return RunSynth(*arguments); }; });
}

}  // namespace lacuna::tools
