// The program's entry point: picks the sub-command, turns its status or exception into one line and
// an exit code.
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/out_of_memory.h"
#include "core/status.h"
#include "tools/command.h"

namespace {

// A bad command line in one line, as every other error.
std::string CommandLineError(const CLI::App* app, const CLI::Error& error) {
  std::string command = "lacuna";
  while (!app->get_subcommands().empty()) {
    app = app->get_subcommands().front();
    command += " " + app->get_name();
  }
  std::string what = error.what();
  // Where something is left over, it tells more than what is missing for it.
  if (const std::vector<std::string> unknown = app->remaining(); !unknown.empty())
    what = fmt::format("{}: unknown {}", unknown.front(),
                       app->get_subcommands({}).empty() ? "argument" : "command");
  std::replace(what.begin(), what.end(), '\n', ' ');
  return fmt::format("lacuna: command line: {}; see {} --help\n", what, command);
}

// Standard output is for results.
void LogToStandardError() {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("lacuna"));
  spdlog::set_pattern("lacuna: %l: %v");
}

}  // namespace

int main(int argc, char** argv) {
  using namespace lacuna;
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout must not end a training run
  LogToStandardError();
  CLI::App app{"Lacuna: pretraining of natively sparse mixture-of-experts language models"};
  app.require_subcommand(1);
  app.name("lacuna");
  app.failure_message(CommandLineError);
  tools::Runner run;
  // The sub-commands, in the order of --help.
  tools::AddTokenizerCommand(app, run);
  tools::AddPrepareCommand(app, run);
  tools::AddInspectCommand(app, run);
  tools::AddSynthCommand(app, run);
  tools::AddTrainCommand(app, run);
  tools::AddGenerateCommand(app, run);
  tools::AddEvalCommand(app, run);
  tools::AddExportCommand(app, run);
  tools::AddImportCommand(app, run);
  tools::AddCheckpointCommand(app, run);
  tools::AddPlanCommand(app, run);
  tools::AddRehearseCommand(app, run);
  tools::AddBenchCommand(app, run);
  tools::AddParityCommand(app, run);
  tools::AddRepeatCommand(app, run);
  tools::AddSelftestCommand(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::kConfig);
  }
  try {
    const absl::Status status = run();
    // Of several ranks only one carries the message.
    if (!status.ok() && !status.message().empty())
      std::fprintf(stderr, "lacuna: %s\n", Message(status).c_str());
    return static_cast<int>(ExitCodeOf(status));
  } catch (const DeviceError& error) {
    std::fprintf(stderr, "lacuna: %s\n", error.what());
    return static_cast<int>(ExitCode::kHardware);
  } catch (const OutOfMemoryError& error) {
    std::fprintf(stderr, "lacuna: %s\n", error.what());
    return static_cast<int>(ExitCode::kHardware);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lacuna: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailure);
  }
}
