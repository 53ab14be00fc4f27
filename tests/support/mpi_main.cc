#include <gtest/gtest.h>

#include <cstdio>
#include <exception>
#include <memory>

#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

std::unique_ptr<Communicator>& Instance() {
  static std::unique_ptr<Communicator> world;
  return world;
}

// Failures of a rank other than 0, one line each with the rank in front.
// (GoogleTest holds its lock while it reports a failure, so it cannot be asked for the test then.)
class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& test) override { test_ = &test; }
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s.%s: %s:%d: %s\n", World().rank(),
                 test_ == nullptr ? "" : test_->test_suite_name(),
                 test_ == nullptr ? "" : test_->name(),
                 result.file_name() == nullptr ? "?" : result.file_name(), result.line_number(),
                 result.message());
  }

  const testing::TestInfo* test_ = nullptr;
};

}  // namespace

Communicator& World() {
  return *Instance();
}

}  // namespace lacuna::test

int main(int argc, char** argv) {
  using namespace lacuna;
  testing::InitGoogleTest(&argc, argv);
  try {
    auto world = MakeCommunicator();
    if (!world.ok()) {
      std::fprintf(stderr, "%s\n", Message(world.status()).c_str());
      return 1;
    }
    test::Instance() = *std::move(world);
    // A rank that gave up a test early must not hold up the others for long.
    test::World().set_timeout_seconds(60);
    if (test::World().rank() != 0) {
      testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      listeners.Append(new test::FailurePrinter);
    }
    const int failed = RUN_ALL_TESTS();
    Tensor sum = Tensor::FromVector(
        std::vector<int64_t>{failed, testing::UnitTest::GetInstance()->successful_test_count()},
        {2});
    test::World().AllReduceSum(sum).Wait();
    const bool all_ran = sum.data<int64_t>()[1] > 0;
    test::Instance().reset();
    return sum.data<int64_t>()[0] == 0 && all_ran ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    test::World().Abort(1);
  }
}
