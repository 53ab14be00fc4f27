// Collectives that are compared among ranks before they start.
#include "distributed/checked_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/distributed/collective_suite.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

using testing::HasSubstr;

std::shared_ptr<Communicator> Checked(Communicator& comm) {
  return MakeCheckedCommunicator({&comm, [](Communicator*) {}});
}

class CheckedCollectives : public testing::TestWithParam<CollectiveCase> {};

TEST_P(CheckedCollectives, AreTheSameCollectives) {
  GetParam().run({*Checked(World())});
}

INSTANTIATE_TEST_SUITE_P(All, CheckedCollectives, testing::ValuesIn(CollectiveCases()),
                         [](const auto& info) { return NameOfCase(info); });

// What each of three ranks is told.
std::vector<std::string> Failures(const std::function<void(Communicator&)>& body) {
  Mailbox box;
  std::vector<std::string> errors(3, "no error");
  RunRanks(box, 3, [&](Communicator& host) {
    const auto comm = Checked(host);
    comm->log().SetContext(fmt::format("step {}", comm->rank()));
    comm->Barrier().Wait();
    try {
      body(*comm);
    } catch (const CommunicationError& error) {
      errors[static_cast<size_t>(comm->rank())] = error.what();
    }
  });
  return errors;
}

TEST(CheckedCommunicator, NamesTheRankThatCallsAnother) {
  if (World().rank() != 0) return;  // not a matter of several processes
  const auto errors = Failures([](Communicator& comm) {
    Tensor tensor = Tensor::Zeros({4, 5}, DType::kBF16);
    if (comm.rank() == 1) {
      comm.Broadcast(tensor, 2).Wait();
    } else {
      comm.AllReduceSum(tensor).Wait();
    }
  });
  for (int r = 0; r < 3; ++r) {
    EXPECT_EQ(errors[static_cast<size_t>(r)],
              fmt::format("rank {} of 3: collective #1 of world differs among ranks: rank 1 calls "
                          "broadcast bf16 [4, 5] on cpu from 2 (step 1); ranks 0, 2 call "
                          "all_reduce_sum bf16 [4, 5] on cpu (step 0)",
                          r));
  }
}

TEST(CheckedCommunicator, NamesOtherDtypesAndRoots) {
  if (World().rank() != 0) return;
  auto errors = Failures([](Communicator& comm) {
    Tensor tensor = Tensor::Zeros({4}, comm.rank() == 2 ? DType::kF64 : DType::kF32);
    comm.AllReduceSum(tensor).Wait();
  });
  EXPECT_THAT(errors[0], HasSubstr("rank 2 calls all_reduce_sum f64 [4] on cpu (step 2); ranks"));
  errors = Failures([](Communicator& comm) {
    comm.Broadcast(Tensor::Zeros({4}, DType::kF32), comm.rank() == 0 ? 1 : 0).Wait();
  });
  EXPECT_THAT(errors[2], HasSubstr("rank 0 calls broadcast f32 [4] on cpu from 1 (step 0)"));
}

TEST(CheckedCommunicator, NamesRowsThatDoNotMatch) {
  if (World().rank() != 0) return;
  const auto errors = Failures([](Communicator& comm) {
    // Rank 2 expects one row more from rank 0 than that sends.
    const int64_t expected = comm.rank() == 2 ? 3 : 2;
    const Tensor in = Tensor::Zeros({6, 2}, DType::kF32),
                 out = Tensor::Zeros({expected + 4, 2}, DType::kF32);
    comm.AllToAllRows(in, {2, 2, 2}, out, {expected, 2, 2}).Wait();
  });
  for (const std::string& error : errors) {
    EXPECT_THAT(error, HasSubstr("all_to_all_rows f32 rows of [2] on cpu: rank 0 sends 2 rows to "
                                 "rank 2 (step 0), which expects 3 (step 2)"));
  }
}

TEST(CheckedCommunicator, NamesRoundsThatDoNotMatch) {
  if (World().rank() != 0) return;
  auto errors = Failures([](Communicator& comm) {
    const Tensor rows = Tensor::Zeros({6, 2}, DType::kF32),
                 out = Tensor::Zeros({6, 2}, DType::kF32);
    std::vector<int64_t> each = {2, 2, 2};
    if (comm.rank() == 1) each = {1, 1, 1, 1, 1, 1};
    comm.AllToAllRows(rows, each, out, each).Wait();
  });
  EXPECT_THAT(errors[0],
              HasSubstr("rank 1 calls all_to_all_rows f32 rows of [2] on cpu in 2 rounds"));
  errors = Failures([](Communicator& comm) {
    // In the second round rank 2 expects one row more from rank 0 than that sends.
    const int64_t expected = comm.rank() == 2 ? 2 : 1;
    const Tensor in = Tensor::Zeros({6, 2}, DType::kF32),
                 out = Tensor::Zeros({5 + expected, 2}, DType::kF32);
    comm.AllToAllRows(in, {1, 1, 1, 1, 1, 1}, out, {1, 1, 1, expected, 1, 1}).Wait();
  });
  EXPECT_THAT(errors[1], HasSubstr("rank 0 sends 1 rows to rank 2 (step 0), which expects 2"));
}

TEST(CheckedCommunicator, SaysWhatItWaitsForWhereARankIsMissing) {
  if (World().rank() != 0) return;
  const auto errors = Failures([](Communicator& comm) {
    if (comm.rank() == 1) return;
    comm.set_timeout_seconds(0.2);
    comm.Barrier().Wait();
  });
  EXPECT_THAT(errors[0], HasSubstr("nothing from rank 1 within"));
  EXPECT_THAT(errors[0], HasSubstr("; this rank calls barrier as collective #1 of world (step 0)"));
}

}  // namespace
}  // namespace lacuna::test
