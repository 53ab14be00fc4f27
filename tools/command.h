// A sub-command of the program: one file in tools/commands/, one Add function listed in
// tools/lacuna.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "absl/status/status.h"

namespace lacuna::tools {

// What the chosen sub-command runs once the command line was parsed.
using Runner = std::function<absl::Status()>;

// Each adds its sub-command (options, help with an example) to `app`; when chosen, it sets `run`
// from the sub-command's callback. A bad command line is CLI11's error (exit code 2), everything
// else the status' exit code.
void AddTokenizerCommand(CLI::App& app, Runner& run);
void AddPrepareCommand(CLI::App& app, Runner& run);
void AddInspectCommand(CLI::App& app, Runner& run);
void AddPlanCommand(CLI::App& app, Runner& run);
void AddTrainCommand(CLI::App& app, Runner& run);
void AddGenerateCommand(CLI::App& app, Runner& run);
void AddEvalCommand(CLI::App& app, Runner& run);
void AddExportCommand(CLI::App& app, Runner& run);
void AddImportCommand(CLI::App& app, Runner& run);
void AddCheckpointCommand(CLI::App& app, Runner& run);
void AddSynthCommand(CLI::App& app, Runner& run);
void AddBenchCommand(CLI::App& app, Runner& run);
void AddParityCommand(CLI::App& app, Runner& run);
void AddRepeatCommand(CLI::App& app, Runner& run);
void AddSelftestCommand(CLI::App& app, Runner& run);
void AddRehearseCommand(CLI::App& app, Runner& run);

}  // namespace lacuna::tools
