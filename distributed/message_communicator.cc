#include "distributed/message_communicator.h"

#include <algorithm>
#include <utility>

#include "distributed/collective_arguments.h"
#include "distributed/message_operation.h"
#include "distributed/message_sum.h"

namespace lacuna {
namespace {

void CopyUnlessSame(const char* from, int64_t bytes, char* to) {
  if (from != to) std::copy(from, from + bytes, to);
}

class MessageCommunicator : public Communicator {
 public:
  explicit MessageCommunicator(std::unique_ptr<Transport> transport)
      : queue_(std::move(transport), *this) {}
  MessageCommunicator(std::unique_ptr<Transport> transport, PartOf part)
      : Communicator(part), queue_(std::move(transport), *this) {}

  int rank() const override { return queue_.transport().rank(); }
  int size() const override { return queue_.transport().size(); }
  int WorldRank(int rank) const override { return queue_.transport().WorldRank(rank); }
  std::unique_ptr<Communicator> Split(int color) override;
  Request AllReduceSum(Tensor tensor) override;
  Request ReduceScatterSum(Tensor in, Tensor out) override;
  Request AllGatherInto(Tensor in, Tensor out) override;
  Request AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                       std::vector<int64_t> receive_rows) override;
  Request Broadcast(Tensor tensor, int root) override;
  Request AllGather(std::string bytes, std::vector<std::string>* all) override;
  Request AllToAll(std::vector<std::string> sent, std::vector<std::string>* received) override;
  Request Barrier() override;
  void Poll() override { queue_.Poll(); }
  void Abort(int exit_code) override { queue_.transport().Abort(exit_code); }

 private:
  OperationQueue queue_;
};

std::unique_ptr<Communicator> MessageCommunicator::Split(int color) {
  const std::vector<std::string> colors =
      AllGatherNow(*this, std::to_string(color), AfterSeconds(timeout_seconds()));
  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (colors[static_cast<size_t>(r)] == std::to_string(color)) members.push_back(r);
  }
  return std::make_unique<MessageCommunicator>(queue_.transport().Split(members), PartOf{*this});
}

Request MessageCommunicator::AllReduceSum(Tensor tensor) {
  HostBytes(tensor, "all_reduce_sum");
  CheckSum("all_reduce_sum", tensor);
  if (size() == 1) return {};
  OperationQueue::OperationPtr operation = queue_.Start("all_reduce_sum", tensor.bytes());
  PostAllReduceSum(*operation, queue_.transport(), std::move(tensor));
  return queue_.Launch(std::move(operation));
}

Request MessageCommunicator::ReduceScatterSum(Tensor in, Tensor out) {
  HostBytes(in, "reduce_scatter_sum");
  CheckSum("reduce_scatter_sum", in);
  CheckParts("reduce_scatter_sum", out, in, size());
  OperationQueue::OperationPtr operation = queue_.Start("reduce_scatter_sum", in.bytes());
  PostReduceScatterSum(*operation, queue_.transport(), std::move(in), std::move(out));
  return queue_.Launch(std::move(operation));
}

Request MessageCommunicator::AllGatherInto(Tensor in, Tensor out) {
  const char* own = HostBytes(std::as_const(in), "all_gather_into");
  CheckParts("all_gather_into", in, out, size());
  char* all = HostBytes(out, "all_gather_into");
  const int64_t bytes = in.bytes();
  OperationQueue::OperationPtr operation = queue_.Start("all_gather_into", out.bytes());
  for (int k = 1; k < size(); ++k) {
    const int from = (rank() + size() - k) % size(), to = (rank() + k) % size();
    operation->Receive(from, 0, all + from * bytes, bytes);
    operation->Send(to, 0, own, bytes);
  }
  CopyUnlessSame(own, bytes, all + rank() * bytes);
  operation->Then([in, out] {});
  return queue_.Launch(std::move(operation));
}

Request MessageCommunicator::AllToAllRows(Tensor in, std::vector<int64_t> send_rows, Tensor out,
                                          std::vector<int64_t> receive_rows) {
  const RowParts parts = CheckRows(in, send_rows, out, receive_rows, rank(), size());
  const char* from_rows = HostBytes(std::as_const(in), "all_to_all_rows");
  char* to_rows = HostBytes(out, "all_to_all_rows");
  OperationQueue::OperationPtr operation = queue_.Start("all_to_all_rows", in.bytes());
  const auto sent = [&](int i) { return from_rows + parts.send[static_cast<size_t>(i)]; };
  const auto received = [&](int i) { return to_rows + parts.receive[static_cast<size_t>(i)]; };
  // Between two ranks messages arrive in the order of their rounds.
  for (int round = 0; round < parts.rounds; ++round) {
    const int first = round * size();
    for (int k = 1; k < size(); ++k) {
      const int from = (rank() + size() - k) % size(), to = (rank() + k) % size();
      if (const int64_t bytes = parts.ReceiveBytes(first + from); bytes > 0)
        operation->Receive(from, 0, received(first + from), bytes);
      if (const int64_t bytes = parts.SendBytes(first + to); bytes > 0)
        operation->Send(to, 0, sent(first + to), bytes);
    }
    const int own = first + rank();
    CopyUnlessSame(sent(own), parts.SendBytes(own), received(own));
  }
  operation->Then([in, out] {});
  return queue_.Launch(std::move(operation));
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
