#include "distributed/state_snapshot.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "core/host_memory.h"
#include "core/host_name.h"
#include "core/out_of_memory.h"
#include "core/parallel.h"
#include "core/status.h"
#include "core/stream.h"
#ifdef LACUNA_WITH_CUDA
#include "core/cuda/memory.h"
#endif

namespace lacuna {
namespace {

// Padding between tensors of a flat buffer, which is copied with them.
constexpr int64_t kLargestGap = 4096;
constexpr int64_t kAlignment = 256;

const char* AddressOf(const Tensor& tensor) {
  return static_cast<const char*>(tensor.Ref().data);
}

// Bytes that are copied at once, and where they go in the block.
struct Run {
  const char* source = nullptr;
  int64_t bytes = 0;
  int64_t at = 0;
  Device device;
};

struct Plan {
  std::vector<Run> runs;
  std::vector<int64_t> at;  // of each tensor of the state, in the block
  int64_t bytes = 0;
};

Plan PlanFor(const TrainingState& state) {
  std::vector<size_t> order;
  for (size_t i = 0; i < state.tensors.size(); ++i) {
    if (state.tensors[i].tensor.bytes() > 0) order.push_back(i);
  }
  const auto address = [&](size_t i) { return AddressOf(state.tensors[i].tensor); };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return std::less<>()(address(a), address(b)); });
  Plan plan;
  plan.at.resize(state.tensors.size());
  const Tensor* before = nullptr;
  for (const size_t i : order) {
    const Tensor& tensor = state.tensors[i].tensor;
    const bool joins =
        before != nullptr && tensor.SharesStorage(*before) &&
        address(i) - (plan.runs.back().source + plan.runs.back().bytes) <= kLargestGap;
    if (!joins) {
      plan.runs.push_back(
          {.source = address(i), .bytes = 0, .at = plan.bytes, .device = tensor.device()});
    }
    Run& run = plan.runs.back();
    const int64_t offset = address(i) - run.source;
    plan.at[i] = run.at + offset;
    run.bytes = std::max(run.bytes, offset + tensor.bytes());
    // Rounded up for each run: the sum is the same in whatever order their addresses are.
    plan.bytes = run.at + (run.bytes + kAlignment - 1) / kAlignment * kAlignment;
    before = &tensor;
  }
  return plan;
}

void Copy(const Run& run, char* target) {
#ifdef LACUNA_WITH_CUDA
  if (run.device != kCpu)
    return cuda::QueueCopyToHost(target, run.source, run.bytes, ComputeStream(run.device));
#endif
  ParallelForChunks(run.bytes, int64_t{1} << 20, 1, [&](int64_t begin, int64_t end) {
    std::memcpy(target + begin, run.source + begin, static_cast<size_t>(end - begin));
  });
}

}  // namespace

int64_t StateSnapshot::BytesFor(const TrainingState& state) {
  return PlanFor(state).bytes;
}

absl::StatusOr<StateSnapshot> StateSnapshot::Reserve(const TrainingState& state) {
  const Plan plan = PlanFor(state);
  Device device = kCpu;
  for (const Run& run : plan.runs) {
    if (run.device != kCpu) device = run.device;
  }
  const int64_t bytes = std::max<int64_t>(plan.bytes, 1);
  LACUNA_ASSIGN_OR_RETURN(std::shared_ptr<void> block, AllocateHostMemory(bytes, device));
  return StateSnapshot(std::move(block), bytes);
}

TrainingState StateSnapshot::Take(const TrainingState& state) {
  const Plan plan = PlanFor(state);
  LACUNA_CHECK(plan.bytes <= bytes_, "snapshot of {} bytes in a block of {}", plan.bytes, bytes_);
  char* const block = static_cast<char*>(block_.get());
  for (const Run& run : plan.runs) Copy(run, block + run.at);
  for (const Run& run : plan.runs) {
    if (run.device == kCpu) continue;
    Synchronize(ComputeStream(run.device));  // the one device that a rank has
    break;
  }
  TrainingState copy = state;
  for (size_t i = 0; i < copy.tensors.size(); ++i) {
    Tensor& tensor = copy.tensors[i].tensor;
    tensor = tensor.bytes() == 0
                 ? Tensor::Empty(tensor.shape(), tensor.dtype())
                 : Tensor::Over(block + plan.at[i], tensor.shape(), tensor.dtype(), block_);
  }
  return copy;
}

absl::Status CheckSnapshotsFit(const std::vector<SnapshotNeed>& ranks) {
  struct Host {
    int64_t ranks = 0, bytes = 0, available = 0;
  };
  std::map<std::string, Host> hosts;
  for (const SnapshotNeed& rank : ranks) {
    Host& host = hosts[rank.host];
    // The least that one of them saw: they may be in containers of their own.
    host.available = host.ranks == 0 ? rank.available : std::min(host.available, rank.available);
    ++host.ranks;
    host.bytes += rank.bytes;
  }
  for (const auto& [name, host] : hosts) {
    // A tenth stays for data, libraries and the cache that the files are written through.
    if (host.available <= 0 || host.bytes <= host.available / 10 * 9) continue;
    return MakeError(ExitCode::kHardware,
                     fmt::format("copies of the state of {} rank{} take {} of the memory of {}, {} "
                                 "are available",
                                 host.ranks, host.ranks == 1 ? "" : "s", FormatMemory(host.bytes),
                                 name, FormatMemory(host.available)));
  }
  return absl::OkStatus();
}

absl::Status CheckSnapshotsFit(Communicator& comm, int64_t bytes) {
  const nlohmann::json mine = {
      {"host", HostName()}, {"bytes", bytes}, {"available", MemoryOfHost().available}};
  std::vector<SnapshotNeed> ranks;
  for (const std::string& text :
       AllGatherNow(comm, mine.dump(), AfterSeconds(comm.timeout_seconds()))) {
    const auto rank = nlohmann::json::parse(text);
    ranks.push_back({rank.at("host"), rank.at("bytes"), rank.at("available")});
  }
  return CheckSnapshotsFit(ranks);
}

}  // namespace lacuna
