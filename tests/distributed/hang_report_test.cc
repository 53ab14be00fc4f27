#include "distributed/hang_report.h"

#include <gtest/gtest.h>

namespace lacuna {
namespace {

OperationLog::Operation Operation(const std::string& name, int64_t sequence,
                                  std::vector<int> ranks = {0, 1, 2, 3}) {
  OperationLog::Operation operation;
  operation.communicator = "world";
  operation.ranks = std::make_shared<const std::vector<int>>(std::move(ranks));
  operation.name = name;
  operation.sequence = sequence;
  operation.bytes = 40;
  operation.context = "step 7, layer 3 ffn";
  return operation;
}

PeerState Waiting(int rank) {
  return {.rank = rank,
          .answers = true,
          .context = "step 7",
          .started = "barrier #5 of world (40 B)",
          .last = "barrier #5 of world (40 B)",
          .waits = "barrier #5 of world (40 B) for 3.0 s"};
}

TEST(HangReport, NamesWhoIsToBlameFirst) {
  PeerState missing = Waiting(1), other = Waiting(2);
  missing.started.reset();
  missing.last = "all_reduce_sum #4 of world (4 B) (step 6)";
  missing.waits = "broadcast #0 of expert (4 B) for 3.0 s";
  other.started = "broadcast #5 of world (40 B)";
  EXPECT_EQ(HangReport(Operation("barrier", 5), {missing, other, Waiting(3)}),
            "in step 7, layer 3 ffn; rank 1 has not come to it (step 7), its last is "
            "all_reduce_sum #4 of world (4 B) (step 6), and it waits in broadcast #0 of expert (4 "
            "B) for 3.0 s; rank 2 has broadcast #5 of world (40 B) (step 7) in its place; rank 3 "
            "is in it, too");
}

TEST(HangReport, OfOtherGroupsOnlyTheSilentCount) {
  PeerState elsewhere = Waiting(2);
  elsewhere.started.reset();
  PeerState silent;
  silent.rank = 3;
  EXPECT_EQ(HangReport(Operation("barrier", 5, {0, 1}), {Waiting(1), elsewhere, silent}),
            "in step 7, layer 3 ffn; rank 3 does not answer: stopped, dead or cut off; rank 1 is "
            "in it, too");
}

TEST(HangReport, ADeviceThatIsBehindIsNamed) {
  PeerState behind = Waiting(1);
  behind.queued = true;
  EXPECT_EQ(HangReport(Operation("barrier", 5, {0, 1}), {behind}),
            "in step 7, layer 3 ffn; rank 1's device is still at work on what comes before it");
}

TEST(OperationLog, KnowsWhatIsUnderWayAndWhatADeviceIsLateWith) {
  using enum OperationLog::OnDevice;
  OperationLog log;
  log.SetContext("step 7");
  OperationLog::OnDevice state = kQueued;
  const int64_t first = log.Begin(Operation("barrier", 5));
  const int64_t second = log.Begin(Operation("broadcast", 6), [&] { return state; });
  EXPECT_EQ(log.Oldest()->name, "barrier");
  EXPECT_EQ(log.Find(second)->context, "step 7");
  EXPECT_TRUE(log.IsQueued("world", 6));
  EXPECT_FALSE(log.Overdue(0).has_value());
  state = kRunning;
  log.End(first);
  EXPECT_FALSE(log.IsQueued("world", 6));
  EXPECT_FALSE(log.Overdue(1000).has_value());
  EXPECT_EQ(log.Overdue(0)->sequence, 6);

  const PeerState mine = StateOfThisRank(log, 2, "world", 6);
  EXPECT_EQ(mine.started, "broadcast #6 of world (40 B)");
  EXPECT_EQ(mine.last, "broadcast #6 of world (40 B) (step 7)");
  EXPECT_EQ(mine.waits.substr(0, 48), "broadcast #6 of world (40 B) (step 7) for 0.0 s");
  EXPECT_FALSE(StateOfThisRank(log, 2, "world", 7).started.has_value());

  state = kDone;
  EXPECT_FALSE(log.Oldest().has_value());
  EXPECT_EQ(log.Started("world").size(), 2u);
}

}  // namespace
}  // namespace lacuna
