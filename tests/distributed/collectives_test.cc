// The collectives on the CPU: one rank without messages, ranks as threads whose messages are late,
// and MPI.
#include <gtest/gtest.h>

#include "tests/distributed/collective_suite.h"
#include "tests/distributed/thread_transport.h"
#include "tests/support/mpi_world.h"

namespace lacuna::test {
namespace {

class Collectives : public testing::TestWithParam<CollectiveCase> {};

TEST_P(Collectives, Mpi) {
  GetParam().run({World()});
}

TEST_P(Collectives, OneRank) {
  if (World().rank() != 0) return;  // not a matter of several ranks
  const auto comm = MakeSelfCommunicator();
  GetParam().run({*comm});
}

TEST_P(Collectives, ThreadsWithLateMessages) {
  if (World().rank() != 0) return;
  for (const int ranks : {2, 3, 6}) {
    Mailbox box;
    box.delay = [](int from, int to, int tag) { return (from * 31 + to * 17 + tag * 7) % 23; };
    RunRanks(box, ranks, [](Communicator& comm) { GetParam().run({comm}); });
  }
}

INSTANTIATE_TEST_SUITE_P(All, Collectives, testing::ValuesIn(CollectiveCases()),
                         [](const auto& info) { return NameOfCase(info); });

}  // namespace
}  // namespace lacuna::test
