// The rules of the recipe's section on ranks, and of what it shares among them.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using test::Complaint;

TEST(Schema, RanksShareExpertsEvenly) {
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.expert=2", "parallel.zero=3"}), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.expert=3"}),
            "--set parallel.expert: parallel.expert = 3: must divide moe.num_experts = 4");
  EXPECT_EQ(
      Complaint(test::kValidRecipe, {"parallel.expert=2", "model.num_dense_layers=2"}),
      "--set parallel.expert: parallel.expert = 2: must be 1, model.num_dense_layers = 2 leaves "
      "no block with experts");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.expert=0"}),
            "--set parallel.expert: parallel.expert = 0: must be at least 1");
}

TEST(Schema, TokensTravelInChunks) {
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.expert_chunks=17"}),
            "--set parallel.expert_chunks: parallel.expert_chunks = 17: must be 0 to 16");
  const auto chunks = [](std::vector<std::string> overrides) {
    const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, 2);
    return recipe.ok() ? recipe->expert_chunks() : -1;
  };
  EXPECT_EQ(chunks({"parallel.expert=2", "train.sequence_length=1024"}), 2);
  EXPECT_EQ(chunks({"parallel.expert=2", "train.sequence_length=1008"}), 1);
  EXPECT_EQ(chunks({"parallel.expert=2", "parallel.expert_chunks=3"}), 3);
  EXPECT_EQ(chunks({"parallel.expert_chunks=3"}), 1);
}

TEST(Schema, RanksHaveSharesOrWholeStates) {
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.shard=2", "parallel.zero=3"}), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.shard=2", "parallel.zero=0"}),
            "--set parallel.shard: parallel.shard = 2: must be 0, or at least 2 ranks that have "
            "shares (parallel.zero 2 or 3)");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.zero=1"}),
            "--set parallel.zero: parallel.zero = 1: must be 0, 2 or 3");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.timeout_seconds=0.5"}), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.timeout_seconds=0"}),
            "--set parallel.timeout_seconds: parallel.timeout_seconds = 0: must be above 0 and at "
            "most 1e6");
}

TEST(Schema, RanksShareSamplesEvenly) {
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.context=4"}, 8), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.context=4"}, 32), "");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.context=4"}, 64),
            "r.yaml:32:17: train.global_batch = 8: must be a multiple of 16 groups of "
            "parallel.context = 4 ranks times train.micro_batch = 1");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.context=3"}),
            "--set parallel.context: parallel.context = 3: twice it must divide "
            "train.sequence_length = 256, which is cut into as many pieces");
  EXPECT_EQ(Complaint(test::kValidRecipe, {"parallel.context=0"}),
            "--set parallel.context: parallel.context = 0: must be 1 to 65536");
}

}  // namespace
}  // namespace lacuna
