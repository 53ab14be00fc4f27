// Collectives over MPI, at any number of ranks; each test computes what every rank must see.
#include "distributed/communicator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::RandomTensor;
using test::World;

uint64_t SeedOf(int rank, int64_t size) {
  return static_cast<uint64_t>(1000 * size + rank);
}

// The documented sum: rank order, f64, one rounding.
Tensor ExpectedSum(int64_t size, DType dtype) {
  std::vector<double> sum(static_cast<size_t>(size));
  for (int r = 0; r < World().size(); ++r) {
    const std::vector<double> part = RandomTensor({size}, dtype, SeedOf(r, size)).ToDoubles();
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  return Tensor::FromDoubles(sum, {size}, dtype);
}

TEST(Communicator, AllReduceIsTheSumInRankOrderToTheBit) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    // Both algorithms, sizes that do not divide, more ranks than elements, none at all.
    for (const int64_t size : {0, 1, 2, 3, 1023, 4099, 100'001}) {
      Tensor tensor = RandomTensor({size}, dtype, SeedOf(World().rank(), size));
      World().AllReduceSum(tensor).Wait();
      EXPECT_TRUE(test::SameBits(tensor, ExpectedSum(size, dtype))) << NameOf(dtype) << " " << size;
    }
  }
}

TEST(Communicator, AllReduceOfIntegersIsExact) {
  const int64_t big = (int64_t{1} << 60) + 1;
  Tensor tensor = Tensor::FromVector(std::vector<int64_t>(3000, big + World().rank()), {3000});
  World().AllReduceSum(tensor).Wait();
  const auto n = static_cast<uint64_t>(World().size());
  const auto expected = static_cast<int64_t>(n * static_cast<uint64_t>(big) + n * (n - 1) / 2);
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(tensor.data<int64_t>()[i], expected);
}

TEST(Communicator, RequestsMayBeWaitedForInAnyOrder) {
  constexpr int kRequests = 12;
  std::vector<Tensor> tensors;
  std::vector<Request> requests;
  for (int i = 0; i < kRequests; ++i) {
    tensors.push_back(RandomTensor({900 * i}, DType::kF64, SeedOf(World().rank(), 900 * i)));
    requests.push_back(World().AllReduceSum(tensors.back()));
  }
  // Another order on each rank.
  for (int i = 0; i < kRequests; ++i)
    requests[static_cast<size_t>((i * 5 + World().rank() * 7) % kRequests)].Wait();
  for (int i = 0; i < kRequests; ++i)
    EXPECT_TRUE(test::SameBits(tensors[static_cast<size_t>(i)], ExpectedSum(900 * i, DType::kF64)));
}

TEST(Communicator, BroadcastFromEveryRoot) {
  for (int root = 0; root < World().size(); ++root) {
    for (const DType dtype : {DType::kBF16, DType::kF64}) {
      Tensor tensor = RandomTensor({5, 7}, dtype, static_cast<uint64_t>(10 + World().rank()));
      World().Broadcast(tensor, root).Wait();
      EXPECT_TRUE(
          test::SameBits(tensor, RandomTensor({5, 7}, dtype, static_cast<uint64_t>(10 + root))));
    }
  }
}

std::string Text(int from, int to) {
  return std::string(static_cast<size_t>((from * 7 + to * 3) % 5 * 40'000),
                     static_cast<char>('a' + from));
}

TEST(Communicator, AllGatherAndAllToAllOfUnevenBytes) {
  const int me = World().rank(), n = World().size();
  std::vector<std::string> all, received, sent;
  Request gather = World().AllGather(Text(me, 0), &all);
  for (int r = 0; r < n; ++r) sent.push_back(Text(me, r));
  Request exchange = World().AllToAll(sent, &received);
  exchange.Wait();
  gather.Wait();
  ASSERT_EQ(all.size(), static_cast<size_t>(n));
  for (int r = 0; r < n; ++r) {
    EXPECT_EQ(all[static_cast<size_t>(r)], Text(r, 0));
    EXPECT_EQ(received[static_cast<size_t>(r)], Text(r, me));
  }
  EXPECT_EQ(BroadcastNow(World(), Text(me, 1), n - 1, AfterSeconds(30)), Text(n - 1, 1));
}

TEST(Communicator, BarrierHoldsUntilTheLastArrives) {
  const int last = World().size() - 1;
  if (World().rank() == last) ::usleep(200'000);
  Tensor before = Tensor::FromVector(
      std::vector<double>{
          std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count()},
      {1});
  World().Barrier().Wait();
  const double after = std::chrono::duration<double>(SteadyClock::now().time_since_epoch()).count();
  World().Broadcast(before, last).Wait();  // ranks of one host share the steady clock
  EXPECT_GE(after, before.data<double>()[0]);
}

TEST(Communicator, AgreesOnTheFirstError) {
  EXPECT_TRUE(AgreeOnStatus(World(), absl::OkStatus(), AfterSeconds(30)).ok());
  const int failing = World().size() - 1;
  const absl::Status mine =
      World().rank() == failing ? CheckpointError("disk {}", "full") : absl::OkStatus();
  const absl::Status agreed = AgreeOnStatus(World(), mine, AfterSeconds(30));
  EXPECT_EQ(Message(agreed),
            World().size() == 1 ? "disk full" : fmt::format("rank {}: disk full", failing));
  EXPECT_EQ(ExitCodeOf(agreed), ExitCode::kCheckpoint);
}

TEST(Communicator, MisuseIsAnException) {
  EXPECT_THROW((void)World().AllToAll(
                   std::vector<std::string>(static_cast<size_t>(World().size()) + 1), nullptr),
               Error);
}

}  // namespace
}  // namespace lacuna
