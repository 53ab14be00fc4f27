// What a run is refused for before it begins.
#include "recipes/trainer/start_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

Recipe With(const std::vector<std::string>& overrides) {
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 1);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

TEST(CheckParallel, RefusesWhatTheTrainerDoesNot) {
  const auto refusal = [](const std::vector<std::string>& overrides, int64_t ranks) {
    const absl::Status status = CheckParallel(With(overrides), ranks);
    EXPECT_TRUE(status.ok() || ExitCodeOf(status) == ExitCode::kConfig);
    return status.ok() ? "" : Message(status);
  };
  EXPECT_EQ(refusal({}, 1), "");
  EXPECT_EQ(refusal({}, 3), "");
  EXPECT_THAT(refusal({"parallel.expert=2"}, 3),
              HasSubstr("parallel.expert = 2: must divide the number of ranks, 3"));
  EXPECT_EQ(refusal({"parallel.expert=2"}, 2), "");
  EXPECT_EQ(refusal({"parallel.zero=2"}, 2), "");
  EXPECT_THAT(refusal({"parallel.context=4"}, 6),
              HasSubstr("parallel.context = 4: must divide the number of ranks, 6"));
  EXPECT_EQ(refusal({"parallel.context=2", "parallel.expert=4"}, 4), "");
  EXPECT_THAT(refusal({"parallel.zero=3"}, 2), HasSubstr("parallel.zero = 3: not in this version"));
}

}  // namespace
}  // namespace lacuna
