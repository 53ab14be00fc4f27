// The message communicator where messages are late, lost or of the wrong size.
#include <gtest/gtest.h>

#include "tests/distributed/thread_transport.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna {
namespace {

using test::Mailbox;
using test::RandomTensor;
using test::RunRanks;

TEST(Faults, OrderOfArrivalChangesNoBit) {
  for (const int64_t size : {100, 5000}) {
    std::vector<Tensor> results;
    for (const uint64_t seed : {1, 2, 3}) {
      Mailbox box;
      box.delay = [seed](int from, int to, int tag) {
        return static_cast<int>(
            (static_cast<uint64_t>(from * 31 + to * 17 + tag) * 2654435761u * seed >> 7) % 40);
      };
      std::vector<Tensor> of_rank(5);
      RunRanks(box, 5, [&](Communicator& comm) {
        Tensor tensor =
            RandomTensor({size}, DType::kF64, static_cast<uint64_t>(comm.rank() + 1), 1e3);
        comm.AllReduceSum(tensor).Wait();
        of_rank[static_cast<size_t>(comm.rank())] = tensor;
      });
      for (const Tensor& tensor : of_rank) results.push_back(tensor);
    }
    for (const Tensor& tensor : results) EXPECT_TRUE(test::SameBits(tensor, results[0]));
  }
}

std::string FailureOf(const std::function<void()>& f) {
  try {
    f();
  } catch (const CommunicationError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Faults, DeadlineNamesRankOperationAndSequence) {
  Mailbox box;
  box.lose = [](int from, int) { return from == 2; };
  std::vector<std::string> errors(4);
  RunRanks(box, 4, [&](Communicator& comm) {
    if (comm.rank() == 2) return;  // died
    errors[static_cast<size_t>(comm.rank())] = FailureOf([&] {
      Tensor tensor = Tensor::Zeros({5000}, DType::kF64);
      Request sum = comm.AllReduceSum(tensor);
      const Deadline start = SteadyClock::now();
      try {
        sum.Wait(AfterSeconds(0.2));
      } catch (...) {
        EXPECT_LT(std::chrono::duration<double>(SteadyClock::now() - start).count(), 2.0);
        EXPECT_EQ(FailureOf([&] { comm.Barrier().Wait(); }),
                  fmt::format("rank {} of 4: barrier: an earlier collective failed", comm.rank()));
        throw;
      }
    });
  });
  EXPECT_EQ(errors[0].substr(0, 71),
            "rank 0 of 4: all_reduce_sum #0 (40.0 kB): nothing from rank 2 within 0.");
  EXPECT_NE(errors[3].find("nothing from rank 2 within"), std::string::npos) << errors[3];
}

TEST(Faults, DefaultTimeoutIsTheCommunicators) {
  Mailbox box;
  box.lose = [](int, int) { return true; };
  RunRanks(box, 3, [&](Communicator& comm) {
    comm.set_timeout_seconds(0.1);
    const std::string error = FailureOf([&] { comm.Barrier().Wait(); });
    EXPECT_NE(error.find("nothing from ranks "), std::string::npos) << error;
  });
}

TEST(Faults, ShapesThatDifferAreAnError) {
  Mailbox box;
  std::vector<std::string> errors(2);
  RunRanks(box, 2, [&](Communicator& comm) {
    errors[static_cast<size_t>(comm.rank())] = FailureOf([&] {
      Tensor tensor = Tensor::Zeros({comm.rank() == 0 ? 4 : 5}, DType::kF64);
      comm.AllReduceSum(tensor).Wait(AfterSeconds(5));
    });
  });
  EXPECT_EQ(errors[0], "message of another size");
  EXPECT_EQ(errors[1], "message of another size");
}

}  // namespace
}  // namespace lacuna
