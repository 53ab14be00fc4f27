#include "distributed/message_communicator.h"

#include <algorithm>
#include <utility>

#include "distributed/message_operation.h"
#include "distributed/rank_order_sum.h"

namespace lacuna {
namespace {

constexpr int64_t kGatherBelowBytes = 8192;

class MessageCommunicator : public Communicator {
 public:
  explicit MessageCommunicator(std::unique_ptr<Transport> transport)
      : queue_(std::move(transport), *this) {}

  int rank() const override { return queue_.transport().rank(); }
  int size() const override { return queue_.transport().size(); }
  Request AllReduceSum(Tensor tensor) override;
  Request Broadcast(Tensor tensor, int root) override;
  Request AllGather(std::string bytes, std::vector<std::string>* all) override;
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override;
  Request Barrier() override;
  void Poll() override { queue_.Poll(); }
  void Abort(int exit_code) override { queue_.transport().Abort(exit_code); }

 private:
  void GatherAndSum(MessageOperation& operation, Tensor tensor);
  void ScatterAndSum(MessageOperation& operation, Tensor tensor);

  OperationQueue queue_;
};

char* HostBytes(Tensor& tensor, const char* name) {
  LACUNA_CHECK(tensor.defined() && tensor.device() == kCpu, "{}: expected a tensor on the CPU",
               name);
  return static_cast<char*>(tensor.MutableRef().data);
}

// Memory for messages, from the cache of tensors' memory: fresh pages would cost more than the sum.
Tensor Buffer(int64_t bytes, char** data) {
  const MemoryScope scope(MemoryCategory::kCommunication);
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
  OperationQueue::OperationPtr operation = queue_.Start("all_reduce_sum", tensor.bytes());
  if (tensor.bytes() < kGatherBelowBytes) {
    GatherAndSum(*operation, tensor);
  } else {
    ScatterAndSum(*operation, tensor);
  }
  return queue_.Launch(std::move(operation));
}

void MessageCommunicator::GatherAndSum(MessageOperation& operation, Tensor tensor) {
  const int64_t bytes = tensor.bytes();
  char* parts = nullptr;
  const Tensor buffer = Buffer(bytes * size(), &parts);
  char* own = HostBytes(tensor, "all_reduce_sum");
  std::copy(own, own + bytes, parts + rank() * bytes);
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    operation.Receive(r, 0, parts + r * bytes, bytes);
    operation.Send(r, 0, parts + rank() * bytes, bytes);
  }
  operation.Then([this, tensor, buffer, parts, bytes, own] {
    SumInRankOrder(
        tensor.dtype(), size(), tensor.numel(), [&](int r) { return parts + r * bytes; }, own);
  });
}

void MessageCommunicator::ScatterAndSum(MessageOperation& operation, Tensor tensor) {
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
    operation.Receive(from, 0, parts + from * bytes(me), bytes(me));
    operation.Send(to, 0, at(to), bytes(to));
  }
  // A raw pointer: a continuation that owned its operation would keep it alive for ever.
  operation.Then([=, op = &operation, dtype = tensor.dtype(), keep = tensor, keep_buffer = buffer] {
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
  OperationQueue::OperationPtr operation = queue_.Start("broadcast", tensor.bytes());
  if (rank() != root) operation->Receive(root, 0, data, tensor.bytes());
  for (int r = 0; r < size() && rank() == root; ++r) {
    if (r != root) operation->Send(r, 0, data, tensor.bytes());
  }
  operation->Then([tensor] {});
  return queue_.Launch(std::move(operation));
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
  OperationQueue::OperationPtr operation = queue_.Start("all_to_all", total);
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
  return queue_.Launch(std::move(operation));
}

Request MessageCommunicator::Barrier() {
  OperationQueue::OperationPtr operation = queue_.Start("barrier", 0);
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) continue;
    operation->Receive(r, 0, nullptr, 0);
    operation->Send(r, 0, nullptr, 0);
  }
  return queue_.Launch(std::move(operation));
}

}  // namespace

std::unique_ptr<Communicator> MakeMessageCommunicator(std::unique_ptr<Transport> transport) {
  return std::make_unique<MessageCommunicator>(std::move(transport));
}

}  // namespace lacuna
