#include "tests/distributed/collective_suite.h"

#include <gtest/gtest.h>

#include <numeric>

#include "distributed/mesh.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna::test {
namespace {

constexpr DType kSummed[] = {DType::kF32, DType::kF64, DType::kBF16, DType::kI32, DType::kI64};
constexpr DType kAll[] = {DType::kF32, DType::kF64, DType::kBF16,
                          DType::kI32, DType::kI64, DType::kU8};

// What `rank` contributes: small integers, or anything where the order of the sum is fixed.
Tensor Contribution(const CollectiveBackend& backend, int rank, int64_t size, DType dtype) {
  if (backend.rank_order && IsFloating(dtype))
    return RandomTensor({size}, dtype, static_cast<uint64_t>(1000 * size + rank));
  std::vector<double> values(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<double>((i * 7 + static_cast<size_t>(rank) * 5) % 13);
  return Tensor::FromDoubles(values, {size}, dtype);
}

Tensor ExpectedSum(const CollectiveBackend& backend, int64_t size, DType dtype) {
  std::vector<double> sum(static_cast<size_t>(size));
  for (int r = 0; r < backend.comm.size(); ++r) {
    const std::vector<double> part = Contribution(backend, r, size, dtype).ToDoubles();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return Tensor::FromDoubles(sum, {size}, dtype);
}

void ExpectSame(const Tensor& got, const Tensor& expected, const char* what) {
  EXPECT_TRUE(SameBits(got.To(kCpu), expected))
      << what << " " << NameOf(expected.dtype()) << " " << ToString(expected.shape());
}

void AllReduce(const CollectiveBackend& b) {
  for (const DType dtype : kSummed) {
    for (const int64_t size : {0, 1, 3, 1023, 4099, 100'001}) {
      Tensor tensor = Contribution(b, b.comm.rank(), size, dtype).To(b.device);
      b.comm.AllReduceSum(tensor).Wait();
      ExpectSame(tensor, ExpectedSum(b, size, dtype), "all_reduce_sum");
    }
  }
}

void ReduceScatter(const CollectiveBackend& b) {
  const int n = b.comm.size(), me = b.comm.rank();
  for (const DType dtype : kSummed) {
    for (const int64_t part : {0, 1, 5, 30'011}) {
      const Tensor in = Contribution(b, me, part * n, dtype).To(b.device);
      const Tensor expected = ExpectedSum(b, part * n, dtype).Slice(me * part, (me + 1) * part);
      const Tensor out = Tensor::Empty({part}, dtype, b.device);
      Request request = b.comm.ReduceScatterSum(in, out);
      const Tensor own = in.Clone();
      request.Wait();
      ExpectSame(out, expected, "reduce_scatter_sum");
      ExpectSame(in, own.To(kCpu), "reduce_scatter_sum leaves its input");
      const Tensor in_place = own.Slice(me * part, (me + 1) * part);
      b.comm.ReduceScatterSum(own, in_place).Wait();
      ExpectSame(in_place, expected, "reduce_scatter_sum in place");
    }
  }
}

void AllGatherTensors(const CollectiveBackend& b) {
  const int n = b.comm.size(), me = b.comm.rank();
  for (const DType dtype : kAll) {
    for (const int64_t part : {0, 1, 5, 30'011}) {
      const Tensor expected = Tensor::Empty({part * n}, dtype);
      for (int r = 0; r < n; ++r)
        expected.Slice(r * part, (r + 1) * part).CopyFrom(Contribution(b, r, part, dtype));
      const Tensor in = Contribution(b, me, part, dtype).To(b.device);
      const Tensor out = Tensor::Empty({n, part}, dtype, b.device);
      b.comm.AllGatherInto(in, out).Wait();
      ExpectSame(out.Reshape({n * part}), expected, "all_gather_into");
      const Tensor whole = Tensor::Zeros({n * part}, dtype, b.device);
      whole.Slice(me * part, (me + 1) * part).CopyFrom(in);
      b.comm.AllGatherInto(whole.Slice(me * part, (me + 1) * part), whole).Wait();
      ExpectSame(whole, expected, "all_gather_into in place");
    }
  }
}

// Rows that `from` sends to `to`: none from or to some ranks; round 0 has none at all.
int64_t NumRows(int round, int from, int to) {
  return round * ((from * 3 + to * 5 + round) % 4) * (round == 3 ? 700 : 1);
}
double Value(int from, int to, int64_t row) {
  return static_cast<double>((from * 31 + to * 17 + row) % 100);
}

// The rows one side of rank `me` is about, in order of the other rank.
Tensor Rows(const CollectiveBackend& b, int round, DType dtype, bool send,
            std::vector<int64_t>* counts) {
  constexpr int64_t kWidth = 6;
  const int me = b.comm.rank();
  std::vector<double> values;
  for (int r = 0; r < b.comm.size(); ++r) {
    const int from = send ? me : r, to = send ? r : me;
    counts->push_back(NumRows(round, from, to));
    for (int64_t row = 0; row < counts->back(); ++row)
      values.insert(values.end(), kWidth, Value(from, to, row));
  }
  return Tensor::FromDoubles(
      values, {std::accumulate(counts->begin(), counts->end(), int64_t{0}), 2, kWidth / 2}, dtype);
}

void AllToAllOfRows(const CollectiveBackend& b) {
  for (const DType dtype : kAll) {
    for (int round = 0; round < 4; ++round) {
      std::vector<int64_t> send, receive;
      const Tensor in = Rows(b, round, dtype, true, &send).To(b.device);
      const Tensor expected = Rows(b, round, dtype, false, &receive);
      const Tensor out = Tensor::Empty(expected.shape(), dtype, b.device);
      b.comm.AllToAllRows(in, send, out, receive).Wait();
      ExpectSame(out, expected, "all_to_all_rows");
    }
  }
}

// Two rounds in one, the second one's rows behind the first one's.
void AllToAllInRounds(const CollectiveBackend& b) {
  for (const DType dtype : kAll) {
    std::vector<int64_t> send, receive;
    std::vector<double> in, expected;
    for (const int round : {3, 2}) {
      std::vector<int64_t> away, here;
      const std::vector<double> sent = Rows(b, round, dtype, true, &away).ToDoubles(),
                                received = Rows(b, round, dtype, false, &here).ToDoubles();
      in.insert(in.end(), sent.begin(), sent.end());
      expected.insert(expected.end(), received.begin(), received.end());
      send.insert(send.end(), away.begin(), away.end());
      receive.insert(receive.end(), here.begin(), here.end());
    }
    const auto rows = [&](const std::vector<double>& values) {
      return Tensor::FromDoubles(values, {static_cast<int64_t>(values.size()) / 6, 2, 3}, dtype);
    };
    const Tensor out = Tensor::Empty(rows(expected).shape(), dtype, b.device);
    b.comm.AllToAllRows(rows(in).To(b.device), send, out, receive).Wait();
    ExpectSame(out, rows(expected), "all_to_all_rows in rounds");
  }
}

void BroadcastFromEveryRoot(const CollectiveBackend& b) {
  for (const DType dtype : kAll) {
    for (int root = 0; root < b.comm.size(); ++root) {
      Tensor tensor = Contribution(b, b.comm.rank(), 3001, dtype).To(b.device);
      b.comm.Broadcast(tensor, root).Wait();
      ExpectSame(tensor, Contribution(b, root, 3001, dtype), "broadcast");
    }
  }
}

void BytesAndBarrier(const CollectiveBackend& b) {
  std::vector<std::string> all, sent, received;
  const auto text = [](int from, int to) {
    return std::string(static_cast<size_t>((from * 7 + to * 3) % 5 * 40'000),
                       static_cast<char>('a' + from));
  };
  for (int r = 0; r < b.comm.size(); ++r) sent.push_back(text(b.comm.rank(), r));
  Request gather = b.comm.AllGather(text(b.comm.rank(), 1), &all);
  Request exchange = b.comm.AllToAll(sent, &received);
  b.comm.Barrier().Wait();
  exchange.Wait();
  gather.Wait();
  for (int r = 0; r < b.comm.size(); ++r) {
    EXPECT_EQ(all[static_cast<size_t>(r)], text(r, 1));
    EXPECT_EQ(received[static_cast<size_t>(r)], text(r, b.comm.rank()));
  }
}

// A batch of requests of every kind under way at once, then waited for in another order on each
// rank; tensors are written on the device just before the call and read just after Wait.
void ManyRequests(const CollectiveBackend& b) {
  const int n = b.comm.size(), me = b.comm.rank();
  struct Pending {
    Request request;
    Tensor got, expected;
  };
  std::vector<Pending> pending;
  for (int64_t i = 0; i < 5; ++i) {
    const int64_t size = (4000 * i + 3) * n, part = size / n;
    const Tensor sum = ExpectedSum(b, size, DType::kF32);
    const Tensor in = Contribution(b, me, size, DType::kF32).To(b.device);
    const Tensor reduced = in.Clone(), scattered = Tensor::Empty({part}, DType::kF32, b.device);
    pending.push_back({b.comm.AllReduceSum(reduced), reduced, sum});
    pending.push_back(
        {b.comm.ReduceScatterSum(in, scattered), scattered, sum.Slice(me * part, (me + 1) * part)});
    const Tensor from_root = in.Clone();
    pending.push_back({b.comm.Broadcast(from_root, static_cast<int>(i) % n), from_root,
                       Contribution(b, static_cast<int>(i) % n, size, DType::kF32)});
  }
  for (size_t i = 0; i < pending.size(); ++i) {
    Pending& one = pending[(i * 7 + static_cast<size_t>(me) * 4) % pending.size()];
    one.request.Wait();
    ExpectSame(one.got, one.expected, "one of many");
  }
}

void SplitByColor(const CollectiveBackend& b) {
  const int me = b.comm.rank(), n = b.comm.size();
  const auto part = b.comm.Split(me % 3 == 0 ? 7 : 2);
  std::vector<int> members;
  for (int r = 0; r < n; ++r) {
    if ((r % 3 == 0) == (me % 3 == 0)) members.push_back(r);
  }
  ASSERT_EQ(part->size(), static_cast<int>(members.size()));
  EXPECT_EQ(members[static_cast<size_t>(part->rank())], me);
  EXPECT_EQ(part->timeout_seconds(), b.comm.timeout_seconds());
  for (const CollectiveCase& one : CollectiveCases()) {
    if (one.run != SplitByColor) one.run({*part, b.device, b.rank_order});
  }
}

// Collectives of a mesh's communicators cross: every rank launches them in the same order and
// waits in its own, so that each waits for a peer that waits for another communicator.
void MeshGroups(const CollectiveBackend& b) {
  const int me = b.comm.rank(), n = b.comm.size();
  for (int expert = 1; expert <= n; ++expert) {
    const int context = n / expert * expert == n ? n / expert : 1;
    const int shard = n % expert == 0 ? expert : 0;
    const auto mesh = MakeMesh(b.comm, expert, context, shard);
    if (n % expert != 0) {
      EXPECT_EQ(
          Message(mesh.status()),
          fmt::format("parallel.expert: {} does not divide the number of ranks, {}", expert, n));
      EXPECT_EQ(ExitCodeOf(mesh.status()), ExitCode::kConfig);
      continue;
    }
    ASSERT_TRUE(mesh.ok());
    EXPECT_EQ(mesh->expert->size(), expert);
    EXPECT_EQ(mesh->expert->rank(), me % expert);
    EXPECT_EQ(mesh->replica->size(), n / expert);
    EXPECT_EQ(mesh->replica->rank(), me / expert);
    EXPECT_EQ(mesh->context->size(), context);
    EXPECT_EQ(mesh->context->rank(), me % context);
    std::vector<Communicator*> comms = {mesh->world, mesh->expert.get(), mesh->replica.get(),
                                        mesh->context.get()};
    EXPECT_EQ(mesh->share_group().size(), expert);
    EXPECT_EQ(mesh->share_group().rank(), me % expert);
    EXPECT_EQ(mesh->copy_group() == nullptr, expert == n);
    if (mesh->copy_group() != nullptr) {
      EXPECT_EQ(mesh->copy_group()->size(), n / expert);
      EXPECT_EQ(mesh->copy_group()->rank(), me / expert);
      comms.insert(comms.end(), {mesh->share.get(), mesh->copy.get()});
    }
    std::vector<Tensor> got;
    std::vector<Request> requests;
    for (Communicator* comm : comms) {
      got.push_back(Contribution(b, comm->rank(), 20'000, DType::kI64).To(b.device));
      requests.push_back(comm->AllReduceSum(got.back()));
    }
    for (size_t i = 0; i < comms.size(); ++i) {
      const size_t k = (i + static_cast<size_t>(me)) % comms.size();
      requests[k].Wait();
      ExpectSame(got[k], ExpectedSum({*comms[k], b.device, b.rank_order}, 20'000, DType::kI64),
                 "mesh");
    }
  }
  EXPECT_EQ(Message(MakeMesh(b.comm, 1, n + 1).status()),
            fmt::format("parallel.context: {} does not divide the number of ranks, {}", n + 1, n));
  EXPECT_EQ(Message(MakeMesh(b.comm, 1, 1, n + 1).status()),
            fmt::format("parallel.shard: {} does not divide the number of ranks, {}", n + 1, n));
}

void Misuse(const CollectiveBackend& b) {
  const int n = b.comm.size();
  const auto empty = [&](Shape shape, DType dtype) {
    return Tensor::Empty(shape, dtype, b.device);
  };
  const Tensor f32 = empty({2 * n}, DType::kF32), u8 = empty({n}, DType::kU8);
  const std::vector<int64_t> rows(static_cast<size_t>(n), 2);
  std::vector<int64_t> more = rows;
  more.back() = 3;
  EXPECT_THROW(b.comm.AllReduceSum(u8), Error);
  EXPECT_THROW(b.comm.ReduceScatterSum(f32, empty({3}, DType::kF32)), Error);
  EXPECT_THROW(b.comm.ReduceScatterSum(u8, empty({1}, DType::kU8)), Error);
  EXPECT_THROW(b.comm.AllGatherInto(empty({2}, DType::kBF16), f32), Error);
  EXPECT_THROW(b.comm.AllToAllRows(f32, more, f32, rows), Error);
  EXPECT_THROW(b.comm.AllToAllRows(f32, {}, f32, rows), Error);
  EXPECT_THROW(b.comm.AllToAllRows(f32, {}, f32, {}), Error);
  std::vector<int64_t> two_rounds = rows;
  two_rounds.insert(two_rounds.end(), static_cast<size_t>(n), 0);
  EXPECT_THROW(b.comm.AllToAllRows(f32, two_rounds, f32, rows), Error);
  EXPECT_THROW(b.comm.AllToAllRows(f32, rows, empty({2 * n, 1}, DType::kF32), rows), Error);
}

}  // namespace

const std::vector<CollectiveCase>& CollectiveCases() {
  static const std::vector<CollectiveCase> cases = {
      {"AllReduceSum", AllReduce},
      {"ReduceScatterSum", ReduceScatter},
      {"AllGatherInto", AllGatherTensors},
      {"AllToAllRows", AllToAllOfRows},
      {"AllToAllRowsInRounds", AllToAllInRounds},
      {"Broadcast", BroadcastFromEveryRoot},
      {"BytesAndBarrier", BytesAndBarrier},
      {"ManyRequests", ManyRequests},
      {"Misuse", Misuse},
      {"MeshGroups", MeshGroups},
      {"SplitByColor", SplitByColor},
  };
  return cases;
}

}  // namespace lacuna::test
