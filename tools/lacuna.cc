// The program's entry point: picks the sub-command, turns its status or exception into one line and
// an exit code.
#include <csignal>
#include <cstdio>
#include <exception>

#include "core/status.h"
#include "tools/command.h"

int main(int argc, char** argv) {
  using namespace lacuna;
  std::signal(SIGPIPE, SIG_IGN);  // a closed stdout must not end a training run
  CLI::App app{"Lacuna: pretraining of natively sparse mixture-of-experts language models"};
  app.require_subcommand(1);
  app.name("lacuna");
  tools::Runner run;
  // The sub-commands, in the order of --help.
  tools::AddTokenizerCommand(app, run);
  tools::AddPrepareCommand(app, run);
  tools::AddInspectCommand(app, run);
  tools::AddTrainCommand(app, run);
  tools::AddGenerateCommand(app, run);
  tools::AddExportCommand(app, run);
  tools::AddImportCommand(app, run);
  tools::AddCheckpointCommand(app, run);
  tools::AddPlanCommand(app, run);
  tools::AddBenchCommand(app, run);
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
  } catch (const std::exception& error) {
    std::fprintf(stderr, "lacuna: %s\n", error.what());
    return static_cast<int>(ExitCode::kFailure);
  }
}
