#include "distributed/device_assignment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lacuna {
namespace {

using testing::HasSubstr;
using Ranks = std::vector<RankDevices>;

std::vector<int> Assigned(const Ranks& ranks, bool may_share = false) {
  std::vector<int> cards;
  for (int r = 0; r < static_cast<int>(ranks.size()); ++r) {
    const absl::StatusOr<int> card = AssignDevice(ranks, r, may_share);
    cards.push_back(card.ok() ? *card : -1);
  }
  return cards;
}

TEST(AssignDevice, RanksOfAHostTakeItsCardsInOrder) {
  const RankDevices a{"a", {"a0", "a1"}}, b{"b", {"b0", "b1", "b2"}};
  EXPECT_EQ(Assigned({a, b, b, a, b}), (std::vector<int>{0, 0, 1, 1, 2}));
}

TEST(AssignDevice, ALauncherMayShowEachRankACardOfItsOwn) {
  EXPECT_EQ(Assigned({{"a", {"x"}}, {"a", {"y"}}}), (std::vector<int>{0, 0}));
  // Cards have different numbers on the ranks that see them.
  EXPECT_EQ(Assigned({{"a", {"x", "y"}}, {"a", {"x", "y"}}}), (std::vector<int>{0, 1}));
}

TEST(AssignDevice, MoreRanksThanCardsIsAnErrorOnEveryRank) {
  const RankDevices a{"a", {"a0", "a1"}}, b{"b", {"b0"}};
  const Ranks ranks = {b, a, a, a};
  for (int r = 0; r < 4; ++r) {
    const auto card = AssignDevice(ranks, r, false);
    EXPECT_EQ(ExitCodeOf(card.status()), ExitCode::kConfig);
    EXPECT_THAT(Message(card.status()),
                HasSubstr("more ranks than CUDA cards on a: rank 3 would be the second one"));
  }
  EXPECT_EQ(Assigned(ranks, true), (std::vector<int>{0, 0, 1, 0}));
}

TEST(AssignDevice, AHostWithoutCardsIsNamed) {
  const auto card = AssignDevice({{"a", {"a0"}}, {"b", {}}}, 0, true);
  EXPECT_EQ(Message(card.status()), "rank 1 sees no CUDA card on b");
}

}  // namespace
}  // namespace lacuna
