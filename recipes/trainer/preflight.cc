#include "recipes/trainer/preflight.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/card_facts.h"
#include "core/host_memory.h"
#include "core/host_name.h"
#include "core/out_of_memory.h"
#include "core/status.h"
#include "core/stream.h"
#include "distributed/device_communicator.h"
#include "distributed/libraries.h"
#include "recipes/plan/memory.h"

namespace lacuna {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PreflightRow, host, card, device, id, architecture, memory,
                                   free_memory, planned_memory, driver, runtime, peers, nccl, mpi,
                                   kernel_failure, binary)

namespace {

using Rows = std::vector<PreflightRow>;

// 13010 -> "13.1"; empty for 0.
std::string CudaVersion(int version) {
  return version == 0 ? "" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

std::string DeviceOf(const PreflightRow& row) {
  return row.card < 0 ? row.device : fmt::format("{} {}", row.card, row.device);
}

// "3 of 7": cards of the host's other ranks that this one reaches; "?" where it sees only its own.
std::string Peers(const Rows& ranks, const PreflightRow& row) {
  std::set<std::string> others, reached, seen;
  for (const PreflightRow& other : ranks) {
    if (other.host != row.host || other.id == row.id) continue;
    others.insert(other.id);
    const auto peer = row.peers.find(other.id);
    if (peer == row.peers.end()) continue;
    seen.insert(other.id);
    if (peer->second) reached.insert(other.id);
  }
  if (row.card < 0 || others.empty()) return "";
  return seen.empty() ? "?" : fmt::format("{} of {}", reached.size(), others.size());
}

// {0, 1, 2, 5} -> "ranks 0-2, 5".
std::string RankList(const std::vector<size_t>& ranks) {
  std::string text = ranks.size() == 1 ? "rank" : "ranks";
  for (size_t i = 0; i < ranks.size();) {
    size_t end = i + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    text += fmt::format("{}{}", i == 0 ? " " : ", ", ranks[i]);
    if (end > i + 1) text += fmt::format("-{}", ranks[end - 1]);
    i = end;
  }
  return text;
}

// "<what> differ: A (ranks 0-6), B (rank 7)<so>" where the ranks have not all the same.
void WarnWhereDifferent(const Rows& ranks, const char* what, const char* so,
                        const std::function<std::string(const PreflightRow&)>& of,
                        std::vector<std::string>* warnings) {
  std::vector<std::pair<std::string, std::vector<size_t>>> values;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const std::string value = of(ranks[r]);
    auto known = std::find_if(values.begin(), values.end(),
                              [&](const auto& one) { return one.first == value; });
    if (known == values.end()) known = values.insert(values.end(), {value, {}});
    known->second.push_back(r);
  }
  if (values.size() < 2) return;
  std::string text = fmt::format("{} differ:", what);
  for (const auto& [value, list] : values) {
    text += fmt::format("{} {} ({})", list.front() == 0 ? "" : ",", value.empty() ? "none" : value,
                        RankList(list));
  }
  warnings->push_back(text + so);
}

void WarnOfPairs(const Rows& ranks, std::vector<std::string>* warnings) {
  struct Pairs {
    int all = 0, apart = 0;
    size_t first = 0, second = 0;
  };
  std::map<std::string, Pairs> hosts;
  for (size_t b = 0; b < ranks.size(); ++b) {
    for (size_t a = 0; a < b && ranks[b].card >= 0; ++a) {
      if (ranks[a].host != ranks[b].host || ranks[a].card < 0) continue;
      if (ranks[a].id == ranks[b].id) {
        warnings->push_back(fmt::format("ranks {} and {} share a card, {} on {}", a, b,
                                        ranks[a].device, ranks[a].host));
        continue;
      }
      const auto peer = ranks[a].peers.find(ranks[b].id);
      if (peer == ranks[a].peers.end()) continue;
      Pairs& pairs = hosts[ranks[a].host];
      ++pairs.all;
      if (!peer->second && pairs.apart++ == 0) std::tie(pairs.first, pairs.second) = {a, b};
    }
  }
  for (const auto& [host, pairs] : hosts) {
    if (pairs.apart == 0) continue;
    warnings->push_back(
        fmt::format("{}: {} of {} pairs of cards do not reach each other's memory (ranks {} and {} "
                    "first): what they exchange goes through the host's",
                    host, pairs.apart, pairs.all, pairs.first, pairs.second));
  }
}

PreflightRow OwnRow(const Recipe& recipe, const Communicator& comm, Device device) {
  PreflightRow row;
  row.host = HostName();
  if (comm.size() > 1) row.mpi = MpiLibrary();
  if (device == kCpu) {
    const HostMemory memory = MemoryOfHost();
    row.device = "CPU";
    row.memory = memory.total;
    row.free_memory = memory.available;
    return row;
  }
  row.kernel_failure = TryKernel(device);
  row.binary = ArchitecturesOfBinary();
  const CudaDeviceInfo info = InfoOfCudaDevice(device);
  const CardFacts facts = FactsOfCard(device);
  row.card = device.index;
  row.device = info.name;
  row.id = info.id;
  row.architecture = fmt::format("sm_{}{}", info.major, info.minor);
  row.memory = info.memory_bytes;
  row.free_memory = facts.free_bytes;
  row.planned_memory = EstimateMemory(recipe, comm.size()).total();
  row.driver = facts.driver;
  row.runtime = facts.runtime;
  row.peers = facts.peers;
  if (comm.size() > 1 && UsesNccl()) row.nccl = NcclVersion();
  return row;
}

}  // namespace

std::vector<std::string> PreflightTable(const Rows& ranks) {
  using Line = std::array<std::string, 10>;
  std::vector<Line> lines = {{"rank", "host", "device", "memory", "free", "arch", "CUDA driver",
                              "runtime", "peers", "NCCL, MPI"}};
  for (size_t r = 0; r < ranks.size(); ++r) {
    const PreflightRow& row = ranks[r];
    lines.push_back({std::to_string(r), row.host, DeviceOf(row), FormatMemory(row.memory),
                     FormatMemory(row.free_memory), row.architecture, CudaVersion(row.driver),
                     CudaVersion(row.runtime), Peers(ranks, row),
                     row.nccl + (row.nccl.empty() || row.mpi.empty() ? "" : ", ") + row.mpi});
  }
  std::vector<std::string> table(lines.size(), " ");
  for (size_t column = 0; column < lines[0].size(); ++column) {
    size_t width = 0;
    for (size_t i = 1; i < lines.size(); ++i) width = std::max(width, lines[i][column].size());
    if (width == 0) continue;
    width = std::max(width, lines[0][column].size());
    for (size_t i = 0; i < lines.size(); ++i)
      table[i] += fmt::format(" {:<{}} ", lines[i][column], width);
  }
  for (std::string& line : table) line.erase(line.find_last_not_of(' ') + 1);
  return table;
}

std::vector<std::string> PreflightWarnings(const Rows& ranks) {
  std::vector<std::string> warnings;
  WarnWhereDifferent(
      ranks, "cards", ": a step takes as long as its slowest rank",
      [](const PreflightRow& row) { return row.device; }, &warnings);
  WarnWhereDifferent(
      ranks, "CUDA drivers", "", [](const PreflightRow& row) { return CudaVersion(row.driver); },
      &warnings);
  WarnWhereDifferent(
      ranks, "CUDA runtimes", ": not all ranks run the same program",
      [](const PreflightRow& row) { return CudaVersion(row.runtime); }, &warnings);
  WarnWhereDifferent(
      ranks, "NCCL versions", ": they need not understand each other",
      [](const PreflightRow& row) { return row.nccl; }, &warnings);
  WarnWhereDifferent(
      ranks, "MPI libraries", "", [](const PreflightRow& row) { return row.mpi; }, &warnings);
  WarnOfPairs(ranks, &warnings);
  for (size_t r = 0; r < ranks.size(); ++r) {
    const PreflightRow& row = ranks[r];
    if (row.planned_memory <= row.free_memory) continue;
    warnings.push_back(
        fmt::format("rank {}: {} of {} are free on its {}, the plan needs {}: is another program "
                    "on the card?",
                    r, FormatMemory(row.free_memory), FormatMemory(row.memory), row.device,
                    FormatMemory(row.planned_memory)));
  }
  return warnings;
}

absl::Status PreflightRefusal(const Rows& ranks) {
  for (size_t r = 0; r < ranks.size(); ++r) {
    const PreflightRow& row = ranks[r];
    if (row.kernel_failure.empty()) continue;
    return MakeError(
        ExitCode::kHardware,
        fmt::format("rank {}: no kernel runs on its {} ({} on {}), this program has "
                    "them for {} (CMAKE_CUDA_ARCHITECTURES): {}",
                    r, row.device, row.architecture, row.host, row.binary, row.kernel_failure));
  }
  return absl::OkStatus();
}

absl::Status Preflight(const Recipe& recipe, Communicator& comm, Device device) {
  if (comm.size() == 1 && device == kCpu) return absl::OkStatus();
  const std::string mine = nlohmann::json(OwnRow(recipe, comm, device)).dump();
  Rows ranks;
  for (const std::string& text : AllGatherNow(comm, mine, AfterSeconds(comm.timeout_seconds())))
    ranks.push_back(nlohmann::json::parse(text).get<PreflightRow>());
  if (comm.rank() == 0) {
    for (const std::string& line : PreflightTable(ranks)) std::printf("%s\n", line.c_str());
    std::fflush(stdout);
    for (const std::string& warning : PreflightWarnings(ranks)) spdlog::warn("{}", warning);
  }
  return PreflightRefusal(ranks);
}

}  // namespace lacuna
