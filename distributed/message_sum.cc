#include "distributed/message_sum.h"

#include <algorithm>

#include "distributed/collective_arguments.h"
#include "distributed/rank_order_sum.h"

namespace lacuna {
namespace {

constexpr int64_t kGatherBelowBytes = 8192;

// Memory for messages, from the cache of tensors' memory: fresh pages would cost more than the sum.
Tensor Buffer(int64_t bytes, char** data) {
  const MemoryScope scope(MemoryCategory::kCommunication);
  Tensor buffer = Tensor::Empty({bytes}, DType::kU8);
  *data = static_cast<char*>(buffer.MutableRef().data);
  return buffer;
}

// Everyone sends everything.
void GatherAndSum(MessageOperation& operation, int rank, int ranks, Tensor tensor) {
  const int64_t bytes = tensor.bytes();
  char* parts = nullptr;
  const Tensor buffer = Buffer(bytes * ranks, &parts);
  char* own = HostBytes(tensor, "all_reduce_sum");
  std::copy(own, own + bytes, parts + rank * bytes);
  for (int r = 0; r < ranks; ++r) {
    if (r == rank) continue;
    operation.Receive(r, 0, parts + r * bytes, bytes);
    operation.Send(r, 0, parts + rank * bytes, bytes);
  }
  operation.Then([=, keep = buffer] {
    SumInRankOrder(
        tensor.dtype(), ranks, tensor.numel(), [&](int r) { return parts + r * bytes; }, own);
  });
}

// Part r of the tensor is summed by rank r, which sends the sum to everyone.
void ScatterAndSum(MessageOperation& operation, int me, int n, Tensor tensor) {
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

}  // namespace

void PostAllReduceSum(MessageOperation& operation, const Transport& transport, Tensor tensor) {
  if (tensor.bytes() < kGatherBelowBytes) {
    GatherAndSum(operation, transport.rank(), transport.size(), std::move(tensor));
  } else {
    ScatterAndSum(operation, transport.rank(), transport.size(), std::move(tensor));
  }
}

void PostReduceScatterSum(MessageOperation& operation, const Transport& transport, Tensor in,
                          Tensor out) {
  const int n = transport.size(), me = transport.rank();
  const int64_t bytes = out.bytes();
  char* own = HostBytes(in, "reduce_scatter_sum");
  char* target = HostBytes(out, "reduce_scatter_sum");
  char* parts = nullptr;
  const Tensor buffer = Buffer(bytes * n, &parts);
  for (int k = 1; k < n; ++k) {
    const int from = (me + n - k) % n, to = (me + k) % n;
    operation.Receive(from, 0, parts + from * bytes, bytes);
    operation.Send(to, 0, own + to * bytes, bytes);
  }
  operation.Then([=, keep = buffer] {
    SumInRankOrder(
        in.dtype(), n, out.numel(), [&](int r) { return (r == me ? own : parts) + r * bytes; },
        target);
  });
}

}  // namespace lacuna
