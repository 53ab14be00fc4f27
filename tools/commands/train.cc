// lacuna train: runs a recipe, alone or under mpirun.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/out_of_memory.h"
#include "core/parallel.h"
#include "core/status.h"
#include "distributed/communicator.h"
#include "distributed/watchdog.h"
#include "recipes/trainer/trainer.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

struct Options {
  std::string recipe;
  std::vector<std::string> overrides;
  TrainOptions train;
};

// The launcher's numbers, known before anything is initialised: a bad recipe ends the program
// before MPI starts.
int64_t FromLauncher(std::initializer_list<const char*> names, int64_t otherwise) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name)) return std::max<int64_t>(0, std::atoll(value));
  }
  return otherwise;
}

// One line, from rank 0.
absl::Status FromLeader(const absl::Status& status, int64_t rank) {
  return status.ok() || rank == 0 ? status : MakeError(ExitCodeOf(status), "");
}

absl::Status Run(const Options& options) {
  const int64_t rank = FromLauncher({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0);
  const int64_t ranks = FromLauncher({"OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"}, 1);
  const int64_t local_ranks = std::max<int64_t>(
      1, FromLauncher({"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"}, 1));
  absl::StatusOr<Recipe> recipe = LoadRecipe(options.recipe, options.overrides, ranks);
  if (!recipe.ok()) return FromLeader(recipe.status(), rank);
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  SetNumThreads(static_cast<int>(recipe->train.threads > 0
                                     ? recipe->train.threads
                                     : std::max<int64_t>(1, cores / local_ranks)));

  LACUNA_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> comm, MakeCommunicator());
  ExitCode failure = ExitCode::kFailure;
  try {
    const Watchdog watchdog(*comm, [&](const std::string& hang) {
      fmt::print(stderr, "lacuna: {}\n", hang);
      comm->Abort(static_cast<int>(ExitCode::kHardware));
    });
    return FromLeader(Train(*recipe, options.train, comm), comm->rank());
  } catch (const CommunicationError& error) {
    failure = ExitCode::kHardware;
    fmt::print(stderr, "lacuna: {}\n", error.what());
  } catch (const DeviceError& error) {
    failure = ExitCode::kHardware;
    fmt::print(stderr, "lacuna: rank {}: {}\n", comm->rank(), error.what());
  } catch (const OutOfMemoryError& error) {
    failure = ExitCode::kHardware;
    fmt::print(stderr, "lacuna: rank {}: {}\n", comm->rank(), error.what());
  } catch (const std::exception& error) {
    fmt::print(stderr, "lacuna: rank {}: {}\n", comm->rank(), error.what());
  }
  // The other ranks know nothing of this one's failure and must not wait for it.
  comm->Abort(static_cast<int>(failure));
  return MakeError(failure, "");
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
