#include "tools/ranks.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/error.h"
#include "core/out_of_memory.h"
#include "core/parallel.h"
#include "core/status.h"
#include "distributed/watchdog.h"

namespace lacuna::tools {
namespace {

int64_t Variable(std::initializer_list<const char*> names, int64_t otherwise) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name)) return std::max<int64_t>(0, std::atoll(value));
  }
  return otherwise;
}

}  // namespace

LaunchedRank FromLauncher() {
  return {.rank = Variable({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}, 0),
          .ranks = Variable({"OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"}, 1),
          .local_ranks = std::max<int64_t>(
              1, Variable({"OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"}, 1))};
}

void UseThreads(int64_t threads, const LaunchedRank& launched) {
  const int64_t cores = std::max(1u, std::thread::hardware_concurrency());
  if (threads == 0) threads = Variable({"OMP_NUM_THREADS"}, 0);
  if (threads == 0) threads = std::max<int64_t>(1, cores / launched.local_ranks);
  SetNumThreads(static_cast<int>(threads));
}

absl::Status FromLeader(const absl::Status& status, int64_t rank) {
  return status.ok() || rank == 0 ? status : MakeError(ExitCodeOf(status), "");
}

absl::Status FromUnconnectedLeader(const absl::Status& status, int64_t rank) {
  if (!status.ok() && rank != 0) std::this_thread::sleep_for(std::chrono::seconds(1));
  return FromLeader(status, rank);
}

absl::Status OnRanks(const std::function<absl::Status(const std::shared_ptr<Communicator>&)>& work,
                     double timeout_seconds) {
  LACUNA_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> comm,
                          MakeCommunicator(timeout_seconds));
  ExitCode failure = ExitCode::kFailure;
  try {
    const Watchdog watchdog(*comm, [&](const std::string& hang) {
      fmt::print(stderr, "lacuna: {}\n", hang);
      comm->Abort(static_cast<int>(ExitCode::kHardware));
    });
    return FromLeader(work(comm), comm->rank());
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

}  // namespace lacuna::tools
