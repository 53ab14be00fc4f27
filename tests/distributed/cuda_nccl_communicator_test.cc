// The collectives of GPU tensors by NCCL, a card a rank.
#include <gtest/gtest.h>

#include <cmath>

#include "core/ops/elementwise.h"
#include "core/stream.h"
#include "distributed/device_assignment.h"
#include "distributed/nccl_communicator.h"
#include "tests/distributed/collective_suite.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace lacuna::test {
namespace {

Device OwnDevice() {
  static const Device device = [] {
    const absl::StatusOr<int> card = AssignDevice(World());
    LACUNA_CHECK(card.ok(), "{}", Message(card.status()));
    return CudaDevice(*card);
  }();
  return device;
}

std::unique_ptr<Communicator> MakeNccl() {
  const Device device = OwnDevice();
  return MakeNcclCommunicator({&World(), [](Communicator*) {}}, device);
}

// One for all tests, so that they meet it in use; gone before MPI ends.
class NcclCollectives : public testing::TestWithParam<CollectiveCase> {
 protected:
  static void SetUpTestSuite() { comm_ = MakeNccl(); }
  static void TearDownTestSuite() { comm_.reset(); }
  static inline std::unique_ptr<Communicator> comm_;
};

TEST_P(NcclCollectives, TensorsOfTheCard) {
  GetParam().run({*comm_, OwnDevice(), /*rank_order=*/false});
}

TEST_P(NcclCollectives, TensorsOfTheHost) {
  GetParam().run({*comm_, kCpu});
}

INSTANTIATE_TEST_SUITE_P(All, NcclCollectives, testing::ValuesIn(CollectiveCases()),
                         [](const auto& info) { return NameOfCase(info); });

Tensor RandomOf(int rank, int64_t size, DType dtype) {
  return RandomTensor({size}, dtype, static_cast<uint64_t>(1000 * size + rank));
}

// n - 1 additions, each rounded to the dtype, of values whose absolute sum is known.
TEST(NcclCommunicator, SumsRepeatTheirBitsOnAllRanksWithinTheRoundingOfARing) {
  const auto comm = MakeNccl();
  const int n = World().size();
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const double unit = dtype == DType::kF32 ? std::ldexp(1, -24) : std::ldexp(1, -8);
    for (const int64_t size : {5, 70'001, 4'000'003}) {
      std::vector<Tensor> runs;
      for (int run = 0; run < 3; ++run) {
        const auto again = run == 2 ? MakeNccl() : nullptr;  // a new ring
        Tensor sum = RandomOf(World().rank(), size, dtype).To(OwnDevice());
        (run == 2 ? *again : *comm).AllReduceSum(sum).Wait();
        runs.push_back(sum.To(kCpu));
        EXPECT_TRUE(SameBits(runs.back(), runs.front())) << NameOf(dtype) << " " << size;
      }
      Tensor of_root = runs[0].Clone();
      World().Broadcast(of_root, 0).Wait();
      EXPECT_TRUE(SameBits(runs[0], of_root)) << NameOf(dtype) << " " << size;

      std::vector<double> exact(static_cast<size_t>(size)), absolute(exact);
      for (int r = 0; r < n; ++r) {
        const std::vector<double> part = RandomOf(r, size, dtype).ToDoubles();
        for (size_t i = 0; i < part.size(); ++i) {
          exact[i] += part[i];
          absolute[i] += std::abs(part[i]);
        }
      }
      const std::vector<double> got = runs[0].ToDoubles();
      double worst = 0;
      for (size_t i = 0; i < got.size(); ++i)
        worst = std::max(worst, std::abs(got[i] - exact[i]) / std::max(absolute[i], 1e-30));
      EXPECT_LE(worst, (n - 1) * unit) << NameOf(dtype) << " " << size;
    }
  }
}

TEST(NcclCommunicator, ReduceScatterRepeatsItsBits) {
  const auto comm = MakeNccl();
  const int n = World().size();
  const Tensor in = RandomOf(World().rank(), 100'003 * n, DType::kF32).To(OwnDevice());
  const Tensor first = Tensor::Empty({100'003}, DType::kF32, OwnDevice()),
               second = Tensor::EmptyLike(first);
  comm->ReduceScatterSum(in, first).Wait();
  comm->ReduceScatterSum(in, second).Wait();
  EXPECT_TRUE(SameBits(first.To(kCpu), second.To(kCpu)));
}

// Kernels before and after a collective, and memory that is freed and taken again around it, while
// the host runs ahead of the device.
TEST(NcclCommunicator, IsOrderedWithTheComputeStreamWithoutAWaitOfTheHost) {
  const auto comm = MakeNccl();
  const Stream stream = ComputeStream(OwnDevice());
  const int64_t size = 3'000'001;
  const int n = World().size();
  Tensor warm = Tensor::Zeros({size}, DType::kF32, OwnDevice());
  comm->AllReduceSum(warm).Wait();
  std::vector<Tensor> results;
  const int64_t waits = NumHostWaits();
  for (int round = 0; round < 30; ++round) {
    Tensor x = Tensor::Empty({size}, DType::kF32, OwnDevice());
    ops::Fill({.y = x.MutableRef(), .value = static_cast<float>(round + World().rank())}, stream);
    comm->AllReduceSum(x).Wait();
    Tensor y = x.Clone();
    ops::Add({.a = x.Ref(), .b = y.Ref(), .y = y.MutableRef()}, stream);
    results.push_back(y.View(size - 5, {5}).Clone());
  }
  EXPECT_EQ(NumHostWaits(), waits);
  for (int round = 0; round < 30; ++round) {
    const double expected = 2.0 * (round * n + n * (n - 1) / 2);
    EXPECT_EQ(results[static_cast<size_t>(round)].ToDoubles(), std::vector<double>(5, expected));
  }
  EXPECT_FALSE(comm->log().Oldest().has_value());
}

TEST(NcclCommunicator, PollTellsWhenTheDeviceIsThrough) {
  const auto comm = MakeNccl();
  Tensor x = Tensor::FromVector(std::vector<float>(1000, 1), {1000}).To(OwnDevice());
  Request sum = comm->AllReduceSum(x);
  const Deadline deadline = AfterSeconds(30);
  while (!sum.Poll()) ASSERT_LT(SteadyClock::now(), deadline);
  EXPECT_EQ(x.ToDoubles(), std::vector<double>(1000, World().size()));
}

}  // namespace
}  // namespace lacuna::test
