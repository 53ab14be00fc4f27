// Deterministic byte mutations of a recipe and of overrides: never a crash, an exception, a hang or
// an error without a place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <random>

#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::StartsWith;

// One to four edits: a byte changed, removed, doubled or inserted from what YAML gives a meaning
// to, or a piece of text moved.
std::string Mutated(std::string text, std::mt19937_64& random) {
  static constexpr char kBytes[] = "[]{}:,-?!&*|>%@`'\"#\\ \n\t\r\0~<=.e+0\xC3\xFF";
  static constexpr std::string_view kMeaningful(kBytes, sizeof(kBytes) - 1);
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % n); };
  for (size_t edits = 1 + below(4); edits > 0 && !text.empty(); --edits) {
    const size_t at = below(text.size());
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(random() & 0xFF);
        break;
      case 1:
        text[at] = kMeaningful[below(kMeaningful.size())];
        break;
      case 2:
        text.insert(at, 1, kMeaningful[below(kMeaningful.size())]);
        break;
      case 3:
        text.erase(at, 1 + below(8));
        break;
      case 4:
        text.insert(at, text.substr(below(text.size()), below(40)));
        break;
      default:
        text.resize(at);
    }
  }
  return text;
}

TEST(SchemaFuzz, MutatedRecipes) {
  std::mt19937_64 random(20240);
  int accepted = 0;
  double slowest = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string text = Mutated(test::kValidRecipe, random);
    const std::clock_t begin = std::clock();  // CPU time: what else the machine does plays no part
    const std::string complaint = test::Complaint(text);
    slowest = std::max(slowest, static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
    accepted += complaint.empty() ? 1 : 0;
    if (!complaint.empty()) {
      ASSERT_THAT(complaint, StartsWith("r.yaml")) << text;
    }
  }
  EXPECT_LT(slowest, 1.0);
  // Mutations of names and numbers may leave a valid recipe, most must not.
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 2000);
}

TEST(SchemaFuzz, MutatedOverrides) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 5000; ++i) {
    const std::string complaint =
        test::Complaint(test::kValidRecipe, {Mutated("data.sources[0].weight=1.5", random)});
    if (!complaint.empty()) {
      ASSERT_THAT(complaint, testing::AnyOf(StartsWith("--set "), StartsWith("r.yaml: ")))
          << complaint;
    }
  }
}

// A recipe that is accepted reads back from its resolved text as the same recipe, whatever was in
// it.
TEST(SchemaFuzz, AcceptedRecipesRoundTrip) {
  std::mt19937_64 random(99);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    const auto recipe = ParseRecipe(Mutated(test::kValidRecipe, random), "r.yaml", {}, 1);
    if (!recipe.ok()) continue;
    const std::string resolved = ToYaml(*recipe);
    const auto again = ParseRecipe(resolved, "resolved.yaml", {}, 1);
    ASSERT_TRUE(again.ok()) << again.status() << resolved;
    EXPECT_EQ(ToYaml(*again), resolved);
    ++accepted;
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace lacuna
