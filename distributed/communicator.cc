#include "distributed/communicator.h"

#include <sched.h>
#include <unistd.h>

#include <thread>

#include "distributed/collective_arguments.h"

namespace lacuna {
namespace {

// Both tensors on the CPU, or both on one device, whose compute stream orders the copy.
void CopyBytes(const Tensor& from, Tensor to) {
  if (from.bytes() == 0 || from.Ref().data == to.Ref().data) return;
  to.View(0, {to.numel()}).CopyFrom(from.View(0, {from.numel()}));
}

class SelfCommunicator : public Communicator {
 public:
  SelfCommunicator() = default;
  explicit SelfCommunicator(PartOf part) : Communicator(part) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::unique_ptr<Communicator> Split(int) override {
    return std::make_unique<SelfCommunicator>(PartOf{*this});
  }
  Request AllReduceSum(Tensor tensor) override {
    CheckSum("all_reduce_sum", tensor);
    return {};
  }
  Request ReduceScatterSum(Tensor in, Tensor out) override {
    CheckSum("reduce_scatter_sum", in);
    CheckParts("reduce_scatter_sum", out, in, 1);
    CopyBytes(in, out);
    return {};
  }
  Request AllGatherInto(Tensor in, Tensor out) override {
    CheckParts("all_gather_into", in, out, 1);
    CopyBytes(in, out);
    return {};
  }
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override {
    CheckRows(in, send_rows, out, receive_rows, 0, 1);
    CopyBytes(in, out);
    return {};
  }
  Request Broadcast(Tensor, int) override { return {}; }
  Request AllGather(std::string bytes, std::vector<std::string>* all) override {
    *all = {std::move(bytes)};
    return {};
  }
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override {
    LACUNA_CHECK(sent.size() == 1, "all_to_all: {} parts for 1 rank", sent.size());
    *received = std::move(sent);
    return {};
  }
  Request Barrier() override { return {}; }
  void Poll() override {}
  void Abort(int exit_code) override { ::_exit(exit_code); }
};

}  // namespace

bool Request::Poll() {
  if (operation_ && operation_->Poll()) operation_.reset();
  return operation_ == nullptr;
}

void Request::Wait() {
  if (operation_) Wait(AfterSeconds(operation_->timeout_seconds()));
}

void Request::Wait(Deadline deadline) {
  if (operation_ && operation_->WaitOnStream()) operation_.reset();
  const Deadline start = SteadyClock::now();
  for (int spins = 0; !Poll(); ++spins) {
    if (SteadyClock::now() >= deadline) {
      operation_->Fail(SecondsSince(start));
    }
    // Peers may share this core: give it away at once, and rest where the answer takes longer than
    // a switch of threads.
    if (spins < 200) {
      ::sched_yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

void Request::Fail(double waited_seconds) {
  operation_->Fail(waited_seconds);
}

Communicator::Communicator(PartOf part) : Communicator() {
  Settings& whole = *part.whole.settings_;
  settings_->timeout_seconds = whole.timeout_seconds;
  settings_->name = fmt::format("{}/{}", whole.name, whole.num_splits++);
  settings_->log = whole.log;
  settings_->progress = whole.progress;
}

int64_t Communicator::LogBegin(const char* name, int64_t sequence, int64_t bytes,
                               OperationLog::DeviceState state) const {
  if (settings_->world_ranks == nullptr) {
    std::vector<int> ranks;
    for (int r = 0; r < size(); ++r) ranks.push_back(WorldRank(r));
    settings_->world_ranks = std::make_shared<const std::vector<int>>(std::move(ranks));
  }
  return log().Begin({.communicator = LogName(),
                      .ranks = settings_->world_ranks,
                      .name = name,
                      .sequence = sequence,
                      .bytes = bytes,
                      .context = "",
                      .since = {}},
                     std::move(state));
}

std::string Communicator::Self() const {
  return name() == "world"
             ? fmt::format("rank {} of {}", rank(), size())
             : fmt::format("rank {} ({} of {} in {})", WorldRank(rank()), rank(), size(), name());
}

std::unique_ptr<Communicator> MakeSelfCommunicator() {
  return std::make_unique<SelfCommunicator>();
}

std::vector<std::string> AllGatherNow(Communicator& comm, std::string text, Deadline deadline) {
  std::vector<std::string> all;
  comm.AllGather(std::move(text), &all).Wait(deadline);
  return all;
}

std::string BroadcastNow(Communicator& comm, const std::string& text, int root, Deadline deadline) {
  return AllGatherNow(comm, comm.rank() == root ? text : std::string(),
                      deadline)[static_cast<size_t>(root)];
}

absl::Status AgreeOnStatus(Communicator& comm, const absl::Status& mine, Deadline deadline) {
  // "<exit code> <message>", empty for OK.
  const std::string text =
      mine.ok() ? "" : fmt::format("{} {}", static_cast<int>(ExitCodeOf(mine)), Message(mine));
  const std::vector<std::string> all = AllGatherNow(comm, text, deadline);
  size_t failed = 0;
  for (const std::string& one : all) failed += one.empty() ? 0 : 1;
  if (failed == 0) return absl::OkStatus();
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].empty()) continue;
    const size_t space = all[r].find(' ');
    const auto code = static_cast<ExitCode>(std::stoi(all[r].substr(0, space)));
    const std::string message = all[r].substr(space + 1);
    return MakeError(
        code, failed == all.size() || r == 0 ? message : fmt::format("rank {}: {}", r, message));
  }
  return absl::OkStatus();
}

}  // namespace lacuna
