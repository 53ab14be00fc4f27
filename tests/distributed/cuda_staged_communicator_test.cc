// The collectives of GPU tensors through pinned memory and MPI. Ranks take cards in turn, so that
// one card is enough for any number of ranks.
#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/stream.h"
#include "distributed/staged_communicator.h"
#include "tests/distributed/collective_suite.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

Device OwnDevice() {
  return CudaDevice(World().rank() % NumCudaDevices());
}

std::unique_ptr<Communicator> Staged() {
  return MakeStagedCommunicator({&World(), [](Communicator*) {}},
                                MakeCudaStagedCopies(OwnDevice()));
}

class CudaStagedCollectives : public testing::TestWithParam<CollectiveCase> {};

TEST_P(CudaStagedCollectives, TensorsOfTheCard) {
  const auto comm = Staged();
  GetParam().run({*comm, OwnDevice()});
}

TEST_P(CudaStagedCollectives, TensorsOfTheHost) {
  const auto comm = Staged();
  GetParam().run({*comm, kCpu});
}

INSTANTIATE_TEST_SUITE_P(All, CudaStagedCollectives, testing::ValuesIn(CollectiveCases()),
                         [](const auto& info) { return NameOfCase(info); });

// Kernels before and after a collective, queued while it is under way, and memory that is freed and
// taken again around it.
TEST(CudaStagedCommunicator, IsOrderedWithTheComputeStream) {
  const auto comm = Staged();
  const Stream stream = ComputeStream(OwnDevice());
  const int64_t size = 3'000'001;
  for (int round = 0; round < 20; ++round) {
    Tensor x = Tensor::Empty({size}, DType::kF32, OwnDevice());
    ops::Fill({.y = x.MutableRef(), .value = static_cast<float>(round + World().rank())}, stream);
    comm->AllReduceSum(x).Wait();
    Tensor y = x.Clone();
    ops::Add({.a = x.Ref(), .b = y.Ref(), .y = y.MutableRef()}, stream);
    const int n = World().size();
    const auto expected = static_cast<float>(2 * (round * n + n * (n - 1) / 2));
    EXPECT_TRUE(
        SameBits(y.To(kCpu), Tensor::FromVector(std::vector<float>(size, expected), {size})));
  }
}

TEST(CudaStagedCommunicator, HoldsUpNeitherTheHostNorTheDeviceBeforeItsEnd) {
  const auto comm = Staged();
  Tensor x = Tensor::Zeros({1 << 20}, DType::kF32, OwnDevice());
  Synchronize(ComputeStream(OwnDevice()));
  const int64_t waits = NumHostWaits();
  Request sum = comm->AllReduceSum(x);
  sum.Wait();
  EXPECT_EQ(NumHostWaits(), waits);
}

}  // namespace
}  // namespace lacuna::test
