// One rank of four, rehearsed on the CPU.
#include "recipes/rehearsal/rehearsal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "core/status.h"
#include "nn/flat_layout.h"
#include "recipes/plan/step_time.h"
#include "recipes/rehearsal/context_peers.h"
#include "recipes/rehearsal/report.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

constexpr int64_t kRanks = 4;
constexpr LinkRates kRates{.all_to_all = 1e9, .collective = 1e9, .latency = 1e-5};

Recipe Tiny(std::vector<std::string> overrides = {}) {
  overrides.insert(
      overrides.begin(),
      {"parallel.expert=4", "parallel.zero=2", "train.sequence_length=64", "moe.num_experts=8",
       "model.num_dense_layers=1", "train.global_batch=16", "train.bucket_mb=1"});
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", overrides, kRanks);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

RehearsalOptions Options(int64_t rank, double balance = 1) {
  return {.ranks = kRanks,
          .rank = rank,
          .steps = 4,
          .warmup = 1,
          .micro_batches = 2,
          .balance = balance,
          .random_data = true,
          .rates = kRates};
}

class Rehearsed : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Rehearsed, TrainsOneRanksShard) {
  SetNumThreads(1);
  const Recipe recipe = Tiny(GetParam());
  for (const int64_t rank : {int64_t{0}, kRanks - 1}) {
    const RehearsalOptions options = Options(rank, rank == 0 ? 1 : 1.3);
    const auto result = Rehearse(recipe, options);
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->losses.size(), 4u);
    for (const double loss : result->losses) EXPECT_NEAR(loss, std::log(512.0), 0.5);
    EXPECT_EQ(result->micro_batches, 2);
    const int64_t context = recipe.parallel.context, micro_batches = 4 * context;
    EXPECT_EQ(result->recipe_micro_batches, micro_batches);
    EXPECT_EQ(result->tokens(recipe), 4 * 64);
    EXPECT_GT(result->step.compute, 0);
    EXPECT_NEAR(result->step.compute,
                result->once + static_cast<double>(micro_batches) * result->micro_batch,
                1e-9 * result->step.compute);
    EXPECT_GT(result->step.exposed, 0);
    EXPECT_LE(result->step.exposed, result->step.communication);
    EXPECT_EQ(result->arrived.even_share, recipe.parallel.expert > 1 ? 64 * 2 / context : 0);

    // This rank's shares, up to the padding of the buffers and the allocator's eighth.
    const MemoryComparison comparison = CompareMemory(recipe, options, *result);
    for (size_t part = 0; part < 3; ++part) {
      const auto [name, measured, planned] = comparison.parts[part];
      EXPECT_GE(measured, planned) << name;
      EXPECT_LE(static_cast<double>(measured), 1.25 * static_cast<double>(planned) + 1e4) << name;
    }
    EXPECT_EQ(result->memory.of(MemoryCategory::kParameters).at_peak,
              result->memory.of(MemoryCategory::kParameters).in_use);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Rehearsed,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"train.dtype=bf16"},
                    std::vector<std::string>{"train.recompute=block"},
                    std::vector<std::string>{"parallel.expert=2"},
                    std::vector<std::string>{"parallel.expert_chunks=2", "train.recompute=block"},
                    std::vector<std::string>{"parallel.expert_chunks=3", "train.dtype=bf16"},
                    std::vector<std::string>{"parallel.zero=3"},
                    std::vector<std::string>{"parallel.zero=3", "parallel.shard=2"},
                    std::vector<std::string>{"parallel.expert=1", "parallel.zero=3"},
                    std::vector<std::string>{"parallel.expert=1", "parallel.zero=0"},
                    std::vector<std::string>{"parallel.context=2", "train.recompute=block"},
                    std::vector<std::string>{"parallel.context=4", "model.attention=full"}));

// What a step held, all of it, beside the plan's estimates.
class Planned : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(Planned, MemoryIsNearTheMeasured) {
  std::vector<std::string> overrides = {
      "model.num_layers=3",    "model.width=128",           "model.vocab_size=2048",
      "model.num_heads=16",    "model.head_dim_qk=48",      "model.head_dim_v=32",
      "model.dense_width=384", "moe.num_experts=16",        "moe.experts_per_token=4",
      "moe.expert_width=128",  "train.sequence_length=256", "train.dtype=bf16",
      "train.device=cpu"};
  overrides.insert(overrides.end(), GetParam().begin(), GetParam().end());
  const Recipe recipe = Tiny(overrides);
  RehearsalOptions options = Options(1, GetParam().empty() ? 1.3 : 1);
  options.steps = 2;
  const auto result = Rehearse(recipe, options);
  ASSERT_TRUE(result.ok()) << result.status();
  const MemoryComparison comparison = CompareMemory(recipe, options, *result);
  // The allocator's blocks are up to an eighth larger than what was asked for.
  const auto measured = static_cast<double>(comparison.measured());
  EXPECT_NEAR(static_cast<double>(comparison.planned()), 0.96 * measured, 0.05 * measured);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, Planned,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"train.recompute=block"},
                    std::vector<std::string>{"train.recompute=[attention]"},
                    std::vector<std::string>{"train.recompute=[feed_forward]"},
                    std::vector<std::string>{"train.recompute=block",
                                             "train.recompute_keeps=attention"},
                    std::vector<std::string>{"parallel.expert=2"},
                    std::vector<std::string>{"parallel.expert_chunks=2"},
                    std::vector<std::string>{"parallel.expert_chunks=2", "train.recompute=block"},
                    std::vector<std::string>{"parallel.zero=3"},
                    std::vector<std::string>{"parallel.zero=3", "train.recompute=block"},
                    std::vector<std::string>{"parallel.expert=1", "parallel.zero=3"},
                    std::vector<std::string>{"parallel.expert=1", "parallel.zero=0"},
                    std::vector<std::string>{"parallel.context=2"},
                    std::vector<std::string>{"model.attention=full"}));

// By hand for zero 2: every parameter that is no expert's once a micro-batch, its weights once a step.
TEST(Rehearsal, VolumesOfAStep) {
  SetNumThreads(1);
  const Recipe recipe = Tiny();
  const auto result = Rehearse(recipe, Options(1));
  ASSERT_TRUE(result.ok()) << result.status();
  const auto kind = [&](CollectiveKind k) {
    return result->volumes.of_kind[static_cast<size_t>(k)];
  };
  const double gradients = kind(CollectiveKind::kReduceScatter).link_bytes / 4,
               weights = kind(CollectiveKind::kAllGather).link_bytes;
  EXPECT_DOUBLE_EQ(gradients, weights);  // both f32
  // 7 all-to-alls of rows a layer of experts (x, ids and weights, results, and three back) and the
  // counts'; with two chunks, of x and results twice as many.
  EXPECT_EQ(kind(CollectiveKind::kAllToAll).collectives, 4 * 8);
  const auto chunked = Rehearse(Tiny({"parallel.expert_chunks=2"}), Options(1));
  ASSERT_TRUE(chunked.ok()) << chunked.status();
  EXPECT_EQ(chunked->volumes.of_kind[static_cast<size_t>(CollectiveKind::kAllToAll)].collectives,
            4 * 10);
}

// Keys and values of both ranks of a group, forward to this one, and backward their gradients home.
TEST(Rehearsal, VolumesOfASharedSample) {
  SetNumThreads(1);
  const Recipe recipe = Tiny({"parallel.expert=1", "parallel.zero=0", "parallel.context=2"});
  const auto result = Rehearse(recipe, Options(1));
  ASSERT_TRUE(result.ok()) << result.status();
  const auto kind = [&](CollectiveKind k) {
    return result->volumes.of_kind[static_cast<size_t>(k)];
  };
  const double planned = TrafficOfStep(recipe, kRanks).keys;
  EXPECT_DOUBLE_EQ(kind(CollectiveKind::kAllGather).link_bytes, planned / 2);
  EXPECT_DOUBLE_EQ(kind(CollectiveKind::kAllToAll).link_bytes, planned / 2);
  // 8 micro-batches of 2 layers of 3 branches.
  EXPECT_EQ(kind(CollectiveKind::kAllGather).collectives, 8 * 2 * 3 * 2);
}

TEST(Rehearsal, TheReportSaysWhatItIs) {
  SetNumThreads(1);
  const Recipe recipe = Tiny();
  const RehearsalOptions options = Options(2);
  const auto result = Rehearse(recipe, options);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string text = RehearsalText(recipe, options, *result);
  EXPECT_THAT(text,
              HasSubstr("rehearsal: one rank of 4 on one card; communication is local copies; "
                        "step time is modelled"));
  for (const char* part : {"plan is off", "all-to-all", "exposed", "seeded tokens", "a GPU"})
    EXPECT_THAT(text, HasSubstr(part));
  const auto json = nlohmann::json::parse(RehearsalJson(recipe, options, *result));
  EXPECT_EQ(json["ranks"], 4);
  EXPECT_EQ(json["rank"], 2);
  EXPECT_DOUBLE_EQ(json["modelled"]["seconds"].get<double>(), result->step.total());
  double exposed = 0;
  for (const auto& seconds : json["modelled"]["exposed_of_kind"]) exposed += seconds.get<double>();
  EXPECT_NEAR(exposed, result->step.exposed, 1e-12);
  EXPECT_GT(json["modelled"]["exposed_of_kind"]["all-to-all"].get<double>(), 0);
  EXPECT_EQ(json["memory"]["compared"]["total"]["measured"].get<int64_t>(),
            result->memory.peak - result->draws);
}

// Its own rows in their place; no other rank's are the same.
TEST(ContextPeers, SendRowsThatAreAllDifferent) {
  std::vector<float> own;
  for (int i = 0; i < 10; ++i) own.push_back(static_cast<float>(i));
  const Tensor in = Tensor::FromVector(own, {5, 2});
  Tensor out = Tensor::Zeros({15, 2}, DType::kF32);
  ContextPeers peers;
  EXPECT_TRUE(peers.Gather(in, out, 1));
  EXPECT_EQ(out.ToDoubles(), (std::vector<double>{2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 0, 1, 2, 3, 4,
                                                  5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0}));
}

TEST(Rehearsal, WhatIsRefused) {
  const auto refused = [](const Recipe& recipe, const RehearsalOptions& options) {
    const auto result = Rehearse(recipe, options);
    return result.ok() ? std::string() : Message(result.status());
  };
  EXPECT_THAT(refused(Tiny(), Options(4)), HasSubstr("--rank 4: must be 0 to 3, of --ranks 4"));
  EXPECT_THAT(refused(Tiny(), Options(-1)), HasSubstr("--rank -1"));
  RehearsalOptions six = Options(0);
  six.ranks = 6;
  EXPECT_THAT(refused(Tiny(), six), HasSubstr("parallel.expert = 4: must divide"));
  EXPECT_THAT(refused(Tiny(), Options(0, 4)), HasSubstr("--balance 4: must be"));
  RehearsalOptions real = Options(0);
  real.random_data = false;
  EXPECT_THAT(refused(Tiny(), real), HasSubstr("t/tokenizer.json"));
  RehearsalOptions few = Options(0);
  few.steps = 1;
  EXPECT_THAT(refused(Tiny(), few), HasSubstr("--steps 1"));
  Recipe shared = Tiny();
  shared.parallel.context = 3;
  EXPECT_THAT(refused(shared, Options(0)), HasSubstr("parallel.context = 3: must divide"));
}

}  // namespace
}  // namespace lacuna
