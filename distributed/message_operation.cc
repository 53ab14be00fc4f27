#include "distributed/message_operation.h"

#include <iterator>
#include <mutex>
#include <set>
#include <utility>

#include "core/io/file.h"

namespace lacuna {
namespace {

// Two tags a collective (its phases); messages of one tag match in order, so wrapping round is
// harmless.
int Tag(int64_t sequence, int phase) {
  constexpr int64_t kTags = int64_t{1} << 23;
  return static_cast<int>(2 * (sequence % kTags) + phase);
}

}  // namespace

MessageOperation::MessageOperation(OperationQueue& queue, const char* name, int64_t sequence,
                                   int64_t bytes)
    : queue_(queue),
      name_(name),
      sequence_(sequence),
      bytes_(bytes),
      log_id_(queue.owner().LogBegin(name, sequence, bytes)) {}

void MessageOperation::Send(int to, int phase, const void* data, int64_t bytes) {
  pending_.push_back({to, false, queue_.transport().Send(to, Tag(sequence_, phase), data, bytes)});
}

void MessageOperation::Receive(int from, int phase, void* data, int64_t bytes) {
  pending_.push_back(
      {from, true, queue_.transport().Receive(from, Tag(sequence_, phase), data, bytes)});
}

bool MessageOperation::Poll() {
  // The others, too: a peer may wait for one of them before it turns to this one.
  queue_.Poll();
  return done_;
}

bool MessageOperation::Advance() {
  while (!done_) {
    std::erase_if(pending_, [](const Pending& pending) { return pending.message->Done(); });
    if (!pending_.empty()) return false;
    if (next_) {
      std::exchange(next_, nullptr)();
    } else {
      done_ = true;
      queue_.owner().log().End(log_id_);
    }
  }
  return true;
}

double MessageOperation::timeout_seconds() const {
  return queue_.owner().timeout_seconds();
}

void MessageOperation::Fail(double waited_seconds) {
  std::set<int> silent, deaf;
  for (const Pending& pending : pending_) {
    (pending.receive ? silent : deaf).insert(queue_.transport().WorldRank(pending.peer));
  }
  const std::set<int>& ranks = silent.empty() ? deaf : silent;
  const std::string diagnosis = queue_.owner().log().Diagnose(log_id_);
  queue_.GiveUp();
  throw CommunicationError(fmt::format("{}: {} #{} ({}): {} rank{} {} within {:.1f} s{}{}",
                                       queue_.owner().Self(), name_, sequence_, FormatBytes(bytes_),
                                       silent.empty() ? "not taken by" : "nothing from",
                                       ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "),
                                       waited_seconds, diagnosis.empty() ? "" : "; ", diagnosis));
}

OperationQueue::~OperationQueue() {
  owner_.progress().Remove(this);
  if (active_.empty()) return;
  struct Abandoned {
    std::unique_ptr<Transport> transport;
    std::list<OperationPtr> operations;
  };
  static auto* const abandoned = new std::list<Abandoned>;
  static std::mutex mutex;
  transport_->GiveUp();
  const std::lock_guard lock(mutex);
  abandoned->push_back({std::move(transport_), std::move(active_)});
}

OperationQueue::OperationPtr OperationQueue::Start(const char* name, int64_t bytes) {
  if (broken_)
    throw CommunicationError(
        fmt::format("{}: {}: an earlier collective failed", owner_.Self(), name));
  return std::make_shared<MessageOperation>(*this, name, sequence_++, bytes);
}

Request OperationQueue::Launch(OperationPtr operation) {
  active_.push_back(operation);
  Poll();
  return Request(std::move(operation));
}

void OperationQueue::Advance() {
  try {
    for (auto it = active_.begin(); it != active_.end();)
      it = (*it)->Advance() ? active_.erase(it) : std::next(it);
  } catch (...) {
    GiveUp();
    throw;
  }
}

void OperationQueue::GiveUp() {
  broken_ = true;
  transport_->GiveUp();
}

}  // namespace lacuna
