// Experts spread over ranks whose tensors are on cards: a card a rank, or one for all with
// LACUNA_GPU_COLLECTIVES=staged.
#include <gtest/gtest.h>

#include "core/stream.h"
#include "distributed/device_communicator.h"
#include "tests/moe/expert_parallel_case.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

Device OwnDevice() {
  return CudaDevice(World().rank() % NumCudaDevices());
}

// One group for all tests, gone before MPI ends.
class CudaExpertRanks : public testing::TestWithParam<ExpertParallelCase> {
 protected:
  static void SetUpTestSuite() {
    group_ = ForDevice({&World(), [](Communicator*) {}}, OwnDevice());
  }
  static void TearDownTestSuite() { group_.reset(); }
  static inline std::shared_ptr<Communicator> group_;
};
INSTANTIATE_TEST_SUITE_P(All, CudaExpertRanks, testing::ValuesIn(ExpertParallelCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(CudaExpertRanks, EqualOneRankAndTheNaiveReference) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    SCOPED_TRACE(NameOf(dtype));
    CheckAgainstOneRank(*group_, GetParam(), dtype, OwnDevice());
  }
}

TEST_P(CudaExpertRanks, RepeatTheirBitsAlsoWithRecompute) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const ExpertParallelProblem p(GetParam(), dtype, *group_);
    const Tensor x = p.Mine(p.x).To(OwnDevice()), dy = p.Mine(p.dy).To(OwnDevice());
    std::vector<std::vector<Tensor>> results;
    for (const bool recompute : {false, false, true}) {
      MoeFixture f(kExpertParallelWidth, p.c.config, dtype, 1, OwnDevice(), group_.get(),
                   p.c.chunks);
      p.ShiftBias(f);
      results.push_back(f.Step(x, dy, {.recompute = recompute}));
      results.back().push_back(f.flat().grad());
      for (Tensor& tensor : results.back()) tensor = tensor.To(kCpu).Clone();
    }
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(SameBits(results[1][i], results[0][i])) << i;
      EXPECT_TRUE(SameBits(results[2][i], results[0][i])) << i;
    }
  }
}

}  // namespace
}  // namespace lacuna::test
