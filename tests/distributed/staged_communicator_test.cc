// The collectives of "device" tensors through host buffers. The device is played by the CPU: its
// copies to the host are late by a number of polls, so that every step of a collective is met in
// every state of the others.
#include "distributed/staged_communicator.h"

#include <gtest/gtest.h>

#include "tests/distributed/collective_suite.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

class LateCopies : public StagedCopies {
 public:
  // Tensors of i64 are not of the device; copies take `polls(k)` polls, k their number.
  explicit LateCopies(std::function<int(int)> polls) : polls_(std::move(polls)) {}

  bool Takes(const Tensor& tensor) const override { return tensor.dtype() != DType::kI64; }
  Tensor Buffer(const Shape& shape, DType dtype) override { return Tensor::Empty(shape, dtype); }
  Done Download(const Tensor& from, Tensor to) override {
    return [=, left = polls_(num_downloads++)]() mutable {
      if (left-- > 0) return false;
      to.CopyFrom(from.Reshape(to.shape()));
      return true;
    };
  }
  void Upload(const Tensor& from, Tensor to) override {
    ++num_uploads;
    to.CopyFrom(from);
  }

  int num_downloads = 0;
  int num_uploads = 0;

 private:
  std::function<int(int)> polls_;
};

std::shared_ptr<Communicator> Borrowed(Communicator& comm) {
  return {&comm, [](Communicator*) {}};
}

// Another order of lateness on every rank.
std::shared_ptr<LateCopies> Late(int rank) {
  return std::make_shared<LateCopies>([rank](int k) { return (k * 7 + rank * 5 + k * rank) % 19; });
}

class StagedCollectives : public testing::TestWithParam<CollectiveCase> {};

TEST_P(StagedCollectives, Mpi) {
  const auto comm = MakeStagedCommunicator(Borrowed(World()), Late(World().rank()));
  GetParam().run({*comm});
}

TEST_P(StagedCollectives, ThreadsWithLateMessages) {
  if (World().rank() != 0) return;  // not a matter of several processes
  for (const int ranks : {2, 5}) {
    Mailbox box;
    box.delay = [](int from, int to, int tag) { return (from * 31 + to * 17 + tag * 7) % 23; };
    RunRanks(box, ranks, [](Communicator& host) {
      const auto comm = MakeStagedCommunicator(Borrowed(host), Late(host.rank()));
      GetParam().run({*comm});
    });
  }
}

INSTANTIATE_TEST_SUITE_P(All, StagedCollectives, testing::ValuesIn(CollectiveCases()),
                         [](const auto& info) { return NameOfCase(info); });

TEST(StagedCommunicator, EachStepWaitsForTheOneBefore) {
  if (World().rank() != 0) return;
  Mailbox box;
  RunRanks(box, 2, [](Communicator& host) {
    bool downloaded = false;
    auto copies = std::make_shared<LateCopies>([](int) { return 1 << 30; });
    const auto comm = MakeStagedCommunicator(Borrowed(host), copies);
    comm->set_timeout_seconds(0.2);
    Tensor tensor = Tensor::Zeros({10}, DType::kF32);
    Request sum = comm->AllReduceSum(tensor);
    EXPECT_EQ(copies->num_downloads, 1);
    EXPECT_FALSE(sum.Poll());
    try {
      sum.Wait();
    } catch (const CommunicationError& error) {
      downloaded = true;
      EXPECT_EQ(std::string(error.what()).substr(0, 92),
                fmt::format("rank {} of 2: all_reduce_sum (40 B): the device has not finished what "
                            "comes before it within ",
                            host.rank())
                    .substr(0, 92));
    }
    EXPECT_TRUE(downloaded);
    EXPECT_EQ(copies->num_uploads, 0);
  });
}

TEST(StagedCommunicator, ALostPeerIsNamed) {
  if (World().rank() != 0) return;
  Mailbox box;
  RunRanks(box, 3, [&](Communicator& host) {
    const auto comm = MakeStagedCommunicator(Borrowed(host), Late(host.rank()));
    if (host.rank() == 2) return;
    comm->set_timeout_seconds(0.3);
    Tensor tensor = Tensor::Zeros({5000}, DType::kF32);
    try {
      comm->AllReduceSum(tensor).Wait();
      ADD_FAILURE() << "no error";
    } catch (const CommunicationError& error) {
      EXPECT_NE(std::string(error.what()).find("all_reduce_sum #0 (20.0 kB): nothing from rank 2"),
                std::string::npos)
          << error.what();
    }
  });
}

TEST(StagedCommunicator, OnlyTheRootOfABroadcastIsNotUploaded) {
  auto copies = Late(World().rank());
  const auto comm = MakeStagedCommunicator(Borrowed(World()), copies);
  Tensor tensor = Tensor::FromVector(std::vector<float>{1.0f * World().rank()}, {1});
  comm->Broadcast(tensor, World().size() - 1).Wait();
  EXPECT_EQ(tensor.ToDoubles()[0], World().size() - 1);
  EXPECT_EQ(copies->num_uploads, World().rank() == World().size() - 1 ? 0 : 1);
}

}  // namespace
}  // namespace lacuna::test
