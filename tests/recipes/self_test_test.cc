// lacuna selftest passes on ranks that compute what one rank does, and fails where a sum over ranks is
// wrong.
#include "recipes/trainer/self_test.h"

#include <gtest/gtest.h>

#include "core/parallel.h"
#include "tests/support/communicator_before.h"
#include "tests/support/mpi_world.h"

namespace lacuna {
namespace {

using test::World;

TEST(SelfTest, PassesOnRanksThatAgree) {
  SetNumThreads(1);
  const auto result = RunSelfTest(World(), kCpu);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->passed()) << result->Table();
  EXPECT_EQ(result->rows.size(), World().size() == 2 ? 10 : 14);
}

// Gradients' sums come back with one element a little too large.
class WrongSums : public test::CommunicatorBefore {
 public:
  using CommunicatorBefore::CommunicatorBefore;

  Request AllReduceSum(Tensor tensor) override {
    CommunicatorBefore::AllReduceSum(tensor).Wait();
    if (tensor.dtype() == DType::kF64 && tensor.numel() > 1000)
      tensor.mutable_data<double>()[tensor.numel() / 2] += 1e-6;
    if (tensor.dtype() == DType::kF32 && tensor.numel() > 1000)
      tensor.mutable_data<float>()[tensor.numel() / 2] += 0.1F;
    return {};
  }
};

TEST(SelfTest, FailsWhereASumIsWrong) {
  SetNumThreads(1);
  WrongSums wrong(World());
  const auto result = RunSelfTest(wrong, kCpu);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_FALSE(result->passed());
  // Those whose gradients go through it, in both types.
  for (const SelfTestRow& row : result->rows) {
    if (row.what.find("zero 0") == std::string::npos) continue;
    EXPECT_FALSE(row.passed()) << row.what;
  }
  EXPECT_NE(result->Table().find("FAILED"), std::string::npos);
}

}  // namespace
}  // namespace lacuna
