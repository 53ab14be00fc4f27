// What the ranks of a run are and stand on, told before anything is built: one table, a line for
// what is odd, and a refusal of what cannot work.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/device.h"
#include "distributed/communicator.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// One rank's answers. Of a rank on the CPU, memory is its host's and all that is a card's is empty.
struct PreflightRow {
  std::string host = {};
  int card = -1;                  // its number on this rank; -1: the CPU
  std::string device = {};        // "NVIDIA H200"
  std::string id = {};            // of the card
  std::string architecture = {};  // "sm_90"
  int64_t memory = 0, free_memory = 0;
  int64_t planned_memory = 0;              // what the plan says the rank needs of the card
  int driver = 0, runtime = 0;             // CUDA: 13000 is 13.0
  std::map<std::string, bool> peers = {};  // CardFacts::peers
  std::string nccl = {};                   // empty where collectives are not NCCL's
  std::string mpi = {};
  std::string kernel_failure = {};  // TryKernel's
  std::string binary = {};          // ArchitecturesOfBinary's
};

// The lines of the table, its header first. A column of which no rank has anything is left out.
std::vector<std::string> PreflightTable(const std::vector<PreflightRow>& ranks);
// One line each: cards, drivers, runtimes, NCCL or MPI that differ; cards of a host that do not reach
// each other; a shared card; less memory free than the plan needs.
std::vector<std::string> PreflightWarnings(const std::vector<PreflightRow>& ranks);
// An error with ExitCode::kHardware where a rank's card runs no kernel of this binary.
absl::Status PreflightRefusal(const std::vector<PreflightRow>& ranks);

// Collective: gathers the rows, rank 0 prints; PreflightRefusal's error on every rank. Nothing for
// one rank on the CPU.
absl::Status Preflight(const Recipe& recipe, Communicator& comm, Device device);

}  // namespace lacuna
