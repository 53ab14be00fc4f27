#include "distributed/message_communicator.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <set>

#include "core/io/file.h"
#include "distributed/rank_order_sum.h"

namespace lacuna {
namespace {

constexpr int64_t kGatherBelowBytes = 8192;
// Two tags a collective (its phases); messages of one tag match in order, so wrapping round is
// harmless.
constexpr int64_t kTags = int64_t{1} << 23;

class MessageCommunicator;

// A collective as phases: the messages under way, and what to do when all have arrived.
class MessageOperation : public Request::Operation {
 public:
  MessageOperation(MessageCommunicator& comm, const char* name, int64_t sequence, int64_t bytes)
      : comm_(comm), name_(name), sequence_(sequence), bytes_(bytes) {}

  void Send(int to, int phase, const void* data, int64_t bytes);
  void Receive(int from, int phase, void* data, int64_t bytes);
  // Runs once all messages are done; may post those of the next phase and set another one.
  void Then(std::function<void()> next) { next_ = std::move(next); }

  bool Poll() override;
  double timeout_seconds() const override;
  [[noreturn]] void Fail(double waited_seconds) override;
  // Poll of this operation alone.
  bool Advance();

 private:
  struct Pending {
    int peer;
    bool receive;
    std::unique_ptr<Transport::Message> message;
  };
  int Tag(int phase) const { return static_cast<int>(2 * (sequence_ % kTags) + phase); }

  MessageCommunicator& comm_;
  const char* name_;
  int64_t sequence_;
  int64_t bytes_;
  std::vector<Pending> pending_;
  std::function<void()> next_;
  bool done_ = false;
};

class MessageCommunicator : public Communicator {
 public:
  explicit MessageCommunicator(std::unique_ptr<Transport> transport)
      : transport_(std::move(transport)) {}
  ~MessageCommunicator() override;

  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  Request AllReduceSum(Tensor tensor) override;
  Request Broadcast(Tensor tensor, int root) override;
  Request AllGather(std::string bytes, std::vector<std::string>* all) override;
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override;
  Request Barrier() override;
  void Poll() override;
  void Abort(int exit_code) override { transport_->Abort(exit_code); }

  Transport& transport() { return *transport_; }
  void GiveUp() {
    broken_ = true;
    transport_->GiveUp();
  }

 private:
  using OperationPtr = std::shared_ptr<MessageOperation>;
  OperationPtr Start(const char* name, int64_t bytes);
  Request Launch(OperationPtr operation);
  void GatherAndSum(const OperationPtr& operation, Tensor tensor);
  void ScatterAndSum(const OperationPtr& operation, Tensor tensor);

  std::unique_ptr<Transport> transport_;
  int64_t sequence_ = 0;
  std::list<OperationPtr> active_;
  bool polling_ = false;
  bool broken_ = false;
};

void MessageOperation::Send(int to, int phase, const void* data, int64_t bytes) {
  pending_.push_back({to, false, comm_.transport().Send(to, Tag(phase), data, bytes)});
}

void MessageOperation::Receive(int from, int phase, void* data, int64_t bytes) {
  pending_.push_back({from, true, comm_.transport().Receive(from, Tag(phase), data, bytes)});
}

bool MessageOperation::Poll() {
  // The others, too: a peer may wait for one of them before it turns to this one.
  comm_.Poll();
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
    }
  }
  return true;
}

double MessageOperation::timeout_seconds() const {
  return comm_.timeout_seconds();
}

void MessageOperation::Fail(double waited_seconds) {
  std::set<int> silent, deaf;
  for (const Pending& pending : pending_) (pending.receive ? silent : deaf).insert(pending.peer);
  const std::set<int>& ranks = silent.empty() ? deaf : silent;
  const std::string where = fmt::format("rank {} of {}: {} #{} ({})", comm_.rank(), comm_.size(),
                                        name_, sequence_, FormatBytes(bytes_));
  comm_.GiveUp();
  throw CommunicationError(fmt::format(
      "{}: {} rank{} {} within {:.1f} s", where, silent.empty() ? "not taken by" : "nothing from",
      ranks.size() == 1 ? "" : "s", fmt::join(ranks, ", "), waited_seconds));
}

MessageCommunicator::~MessageCommunicator() {
  if (active_.empty()) return;
  // Peers may still write into the memory of what is under way: it stays for the rest of the
  // process.
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

MessageCommunicator::OperationPtr MessageCommunicator::Start(const char* name, int64_t bytes) {
  if (broken_)
    throw CommunicationError(
        fmt::format("rank {} of {}: {}: an earlier collective failed", rank(), size(), name));
  return std::make_shared<MessageOperation>(*this, name, sequence_++, bytes);
}

Request MessageCommunicator::Launch(OperationPtr operation) {
  active_.push_back(operation);
  Poll();
  return Request(std::move(operation));
}

void MessageCommunicator::Poll() {
  if (polling_) return;  // a continuation polls
  polling_ = true;
  try {
    for (auto it = active_.begin(); it != active_.end();)
      it = (*it)->Advance() ? active_.erase(it) : std::next(it);
  } catch (...) {
    polling_ = false;
    GiveUp();
    throw;
  }
  polling_ = false;
}

char* HostBytes(Tensor& tensor, const char* name) {
  LACUNA_CHECK(tensor.defined() && tensor.device() == kCpu, "{}: expected a tensor on the CPU",
               name);
  return static_cast<char*>(tensor.MutableRef().data);
}

// Memory for messages, from the cache of tensors' memory: fresh pages would cost more than the sum.
Tensor Buffer(int64_t bytes, char** data) {
  Tensor buffer = Tensor::Empty({bytes}, DType::kU8);
  *data = static_cast<char*>(buffer.MutableRef().data);
  return buffer;
}

Request MessageCommunicator::AllReduceSum(Tensor tensor) {
  HostBytes(tensor, "all_reduce_sum");
  LACUNA_CHECK(tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kF64 ||
                   tensor.dtype() == DType::kI64,
               "all_reduce_sum: expected f32, f64 or i64, got {}", NameOf(tensor.dtype()));
  if (size() == 1) return {};
  OperationPtr operation = Start("all_reduce_sum", tensor.bytes());
  if (tensor.bytes() < kGatherBelowBytes) {
    GatherAndSum(operation, tensor);
  } else {
    ScatterAndSum(operation, tensor);
  }
  return Launch(std::move(operation));
}

void MessageCommunicator::GatherAndSum(const OperationPtr& operation, Tensor tensor) {
  const int64_t bytes = tensor.bytes();
  char* parts = nullptr;
  const Tensor buffer = Buffer(bytes * size(), &parts);
  char* own = HostBytes(tensor, "all_reduce_sum");
  std::copy(own, own + bytes, parts + rank() * bytes);
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    operation->Receive(r, 0, parts + r * bytes, bytes);
    operation->Send(r, 0, parts + rank() * bytes, bytes);
  }
  operation->Then([this, tensor, buffer, parts, bytes, own] {
    SumInRankOrder(
        tensor.dtype(), size(), tensor.numel(), [&](int r) { return parts + r * bytes; }, own);
  });
}

void MessageCommunicator::ScatterAndSum(const OperationPtr& operation, Tensor tensor) {
  const int n = size(), me = rank();
  const int64_t element = SizeOf(tensor.dtype()), count = tensor.numel();
  char* own = HostBytes(tensor, "all_reduce_sum");
  // Part r is elements [begin(r), begin(r + 1)).
  const auto begin = [=](int r) { return count / n * r + std::min<int64_t>(r, count % n); };
  const auto at = [=](int r) { return own + begin(r) * element; };
  const auto bytes = [=](int r) { return (begin(r + 1) - begin(r)) * element; };
  char* parts = nullptr;
  const Tensor buffer = Buffer(bytes(me) * n, &parts);
  // Ranks start with different peers, so that no one is everybody's first.
  for (int k = 1; k < n; ++k) {
    const int from = (me + n - k) % n, to = (me + k) % n;
    operation->Receive(from, 0, parts + from * bytes(me), bytes(me));
    operation->Send(to, 0, at(to), bytes(to));
  }
  // The raw pointer: a continuation that owned its operation would keep it alive for ever.
  operation->Then(
      [=, op = operation.get(), dtype = tensor.dtype(), keep = tensor, keep_buffer = buffer] {
        SumInRankOrder(
            dtype, n, begin(me + 1) - begin(me),
            [&](int r) { return r == me ? at(me) : parts + r * bytes(me); }, at(me));
        for (int k = 1; k < n; ++k) {
          const int from = (me + n - k) % n, to = (me + k) % n;
          op->Receive(from, 1, at(from), bytes(from));
          op->Send(to, 1, at(me), bytes(me));
        }
        op->Then([keep] {});
      });
}

Request MessageCommunicator::Broadcast(Tensor tensor, int root) {
  char* data = HostBytes(tensor, "broadcast");
  LACUNA_CHECK(root >= 0 && root < size(), "broadcast: root {} of {} ranks", root, size());
  OperationPtr operation = Start("broadcast", tensor.bytes());
  if (rank() != root) operation->Receive(root, 0, data, tensor.bytes());
  for (int r = 0; r < size() && rank() == root; ++r) {
    if (r != root) operation->Send(r, 0, data, tensor.bytes());
  }
  operation->Then([tensor] {});
  return Launch(std::move(operation));
}

Request MessageCommunicator::AllGather(std::string bytes, std::vector<std::string>* all) {
  return AllToAll(std::vector<std::string>(static_cast<size_t>(size()), bytes), all);
}

Request MessageCommunicator::AllToAll(std::vector<std::string> sent,
                                      std::vector<std::string>* received) {
  LACUNA_CHECK(sent.size() == static_cast<size_t>(size()), "all_to_all: {} parts for {} ranks",
               sent.size(), size());
  struct State {
    std::vector<std::string> sent;
    std::vector<int64_t> sent_bytes, received_bytes;
  };
  const auto n = static_cast<size_t>(size()), me = static_cast<size_t>(rank());
  auto state = std::make_shared<State>(
      State{std::move(sent), std::vector<int64_t>(n), std::vector<int64_t>(n)});
  int64_t total = 0;
  for (size_t r = 0; r < n; ++r)
    total += state->sent_bytes[r] = static_cast<int64_t>(state->sent[r].size());
  received->assign(n, "");
  OperationPtr operation = Start("all_to_all", total);
  for (size_t r = 0; r < n; ++r) {
    if (r == me) continue;
    operation->Receive(static_cast<int>(r), 0, &state->received_bytes[r], sizeof(int64_t));
    operation->Send(static_cast<int>(r), 0, &state->sent_bytes[r], sizeof(int64_t));
  }
  operation->Then([=, op = operation.get()] {
    for (size_t r = 0; r < n; ++r) {
      if (r == me) continue;
      std::string& target = (*received)[r];
      target.resize(static_cast<size_t>(state->received_bytes[r]));
      if (!target.empty())
        op->Receive(static_cast<int>(r), 1, target.data(), state->received_bytes[r]);
      if (state->sent_bytes[r] > 0)
        op->Send(static_cast<int>(r), 1, state->sent[r].data(), state->sent_bytes[r]);
    }
    op->Then([=] { (*received)[me] = std::move(state->sent[me]); });
  });
  return Launch(std::move(operation));
}

Request MessageCommunicator::Barrier() {
  OperationPtr operation = Start("barrier", 0);
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    operation->Receive(r, 0, nullptr, 0);
    operation->Send(r, 0, nullptr, 0);
  }
  return Launch(std::move(operation));
}

}  // namespace

std::unique_ptr<Communicator> MakeMessageCommunicator(std::unique_ptr<Transport> transport) {
  return std::make_unique<MessageCommunicator>(std::move(transport));
}

}  // namespace lacuna
