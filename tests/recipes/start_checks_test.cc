// What numbers of ranks a run is refused for before it begins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "recipes/plan/rank_shares.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

Recipe With(const std::vector<std::string>& overrides) {
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

TEST(CheckMesh, RefusesWhatGroupsOfRanksCannotBe) {
  const auto refusal = [](const std::vector<std::string>& overrides, int64_t ranks) {
    const absl::Status status = CheckMesh(With(overrides), ranks);
    EXPECT_TRUE(status.ok() || ExitCodeOf(status) == ExitCode::kConfig);
    return status.ok() ? "" : Message(status);
  };
  EXPECT_EQ(refusal({}, 1), "");
  EXPECT_EQ(refusal({}, 3), "");
  EXPECT_THAT(refusal({"parallel.expert=2"}, 3),
              HasSubstr("parallel.expert = 2: must divide the number of ranks, 3"));
  EXPECT_EQ(refusal({"parallel.expert=2"}, 2), "");
  for (const char* zero : {"parallel.zero=2", "parallel.zero=3"}) {
    EXPECT_EQ(refusal({zero}, 1), "");
    EXPECT_EQ(refusal({zero}, 3), "");
    EXPECT_EQ(refusal({zero, "parallel.expert=2", "parallel.context=4"}, 4), "");
  }
  EXPECT_THAT(refusal({"parallel.context=4"}, 6),
              HasSubstr("parallel.context = 4: must divide the number of ranks, 6"));
  EXPECT_THAT(refusal({"parallel.zero=2", "parallel.shard=4"}, 6),
              HasSubstr("parallel.shard = 4: must divide the number of ranks, 6"));
  EXPECT_EQ(refusal({"parallel.zero=3", "parallel.shard=2"}, 6), "");
  EXPECT_EQ(refusal({"parallel.context=2", "parallel.expert=4"}, 4), "");
}

}  // namespace
}  // namespace lacuna
