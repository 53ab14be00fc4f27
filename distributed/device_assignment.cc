#include "distributed/device_assignment.h"

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/host_name.h"
#include "core/stream.h"
#include "distributed/device_communicator.h"

namespace lacuna {
namespace {

RankDevices OwnDevices() {
  RankDevices mine{HostName(), {}};
  for (int i = 0; i < NumCudaDevices(); ++i) mine.ids.push_back(InfoOfCudaDevice(CudaDevice(i)).id);
  return mine;
}

bool MayShareCards() {
  const char* value = std::getenv("NCCL_MULTI_RANK_GPU_ENABLE");
  return !UsesNccl() || (value != nullptr && std::string(value) == "1");
}

}  // namespace

absl::StatusOr<int> AssignDevice(const std::vector<RankDevices>& ranks, int rank, bool may_share) {
  std::map<std::string, int> num_ranks;                            // of a host, so far
  std::map<std::pair<std::string, std::string>, int> num_on_card;  // of a host's card
  int choice = -1;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const auto& [host, ids] = ranks[r];
    if (ids.empty()) return ConfigError("rank {} sees no CUDA card on {}", r, host);
    const size_t card = static_cast<size_t>(num_ranks[host]++) % ids.size();
    if (static_cast<int>(r) == rank) choice = static_cast<int>(card);
    if (++num_on_card[{host, ids[card]}] > 1 && !may_share) {
      return ConfigError(
          "more ranks than CUDA cards on {}: rank {} would be the second one of a card ({} seen "
          "there); NCCL_MULTI_RANK_GPU_ENABLE=1 lets ranks share cards (NCCL 2.30 and later, for "
          "tests)",
          host, r, ids.size());
    }
  }
  return choice;
}

absl::StatusOr<int> AssignDevice(Communicator& comm) {
  const RankDevices mine = OwnDevices();
  const std::string text = nlohmann::json{{"host", mine.host}, {"ids", mine.ids}}.dump();
  std::vector<RankDevices> ranks;
  for (const std::string& one : AllGatherNow(comm, text, AfterSeconds(comm.timeout_seconds()))) {
    const auto json = nlohmann::json::parse(one);
    ranks.push_back({json.at("host"), json.at("ids")});
  }
  return AssignDevice(ranks, comm.rank(), MayShareCards());
}

}  // namespace lacuna
