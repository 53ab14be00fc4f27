// The plan of several ranks: shares, bytes and traffic, by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "distributed/checkpoint_writer.h"
#include "distributed/rehearsal_communicator.h"
#include "distributed/state_snapshot.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/plan/host_report.h"
#include "recipes/plan/layer_memory.h"
#include "recipes/plan/memory.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/step_time.h"
#include "recipes/trainer/checkpoints.h"
#include "recipes/trainer/memory_check.h"
#include "tests/recipes/schema_texts.h"

namespace lacuna {
namespace {

using testing::HasSubstr;

constexpr double kGB = 1e9;
constexpr int64_t kGiB = int64_t{1} << 30;

Recipe Paper(const std::vector<std::string>& overrides = {}) {
  const auto recipe = LoadRecipe(
      std::string(std::getenv("LACUNA_SOURCE_DIR")) + "/recipes/nsa_27b/pretrain_8k.yaml",
      overrides, 8);
  LACUNA_CHECK(recipe.ok(), "{}", Message(recipe.status()));
  return *recipe;
}

TEST(RankPlan, TheStateOfThePapersModelOnEightRanks) {
  // 24.6 B parameters of experts and 3.3 B others: weights and 16 bytes of state each.
  const double experts = 29.0 * 72 * 3 * 2560 * 1536, others = 27.93e9 - experts;
  const RankMemory m = EstimateMemory(Paper(), 8);
  EXPECT_NEAR(static_cast<double>(m.states()) / kGB,
              (18 * experts / 8 + (2 + 16.0 / 8) * others) / kGB, 0.05);
  const RankMemory whole = EstimateMemory(Paper({"parallel.zero=0"}), 8);
  EXPECT_NEAR(static_cast<double>(whole.states()) / kGB, (18 * experts / 8 + 18 * others) / kGB,
              0.1);
  const RankMemory sharded = EstimateMemory(Paper({"parallel.zero=3"}), 8);
  EXPECT_NEAR(static_cast<double>(m.weights - sharded.weights) / kGB, 2 * others * 7 / 8 / kGB,
              0.05);
}

TEST(RankPlan, DestinationsByEnumeration) {
  // 2 of 4 experts on 2 ranks: of 6 pairs, 2 are on one rank and 4 on two.
  const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", {"parallel.expert=2"}, 2);
  ASSERT_TRUE(recipe.ok());
  EXPECT_NEAR(ExpectedDestinations(*recipe), (2 * 1 + 4 * 2) / 6.0, 1e-12);
  EXPECT_NEAR(ExpectedRemoteDestinations(*recipe), (2 * 1 + 4 * 2) / 12.0, 1e-12);
  EXPECT_NEAR(ExpectedDestinations(Paper()), 4.52, 0.01);
}

// By hand: the shared experts' products take 29 layers x 524,288 tokens x 6 x 2560 x 3072 FLOPs.
TEST(RankPlan, WhatOfTheAllToAllRunsBesideCompute) {
  const auto devices = PlannedDevices();
  PlannedDevice device = *std::find_if(devices.begin(), devices.end(), [](const PlannedDevice& d) {
    return std::string_view(d.key) == "h200";
  });
  const auto hidden = [&](const char* recompute, const char* chunks = "1") {
    const StepTime time = EstimateStep(
        Paper({recompute, fmt::format("parallel.expert_chunks={}", chunks)}), 8, 1, device);
    EXPECT_LT(time.collectives, time.compute);
    return (time.hidden - time.collectives) / time.all_to_all;
  };
  const double shared = 29 * 524288.0 * 6 * 2560 * 3072 / (kMatMulShare * device.matmul);
  const double way = EstimateStep(Paper({"train.recompute=none"}), 8, 1, device).all_to_all / 4;
  EXPECT_GT(shared * 2 / 3, way);
  EXPECT_LT(shared / 3, way);
  EXPECT_NEAR(hidden("train.recompute=none"), (3 * way + shared / 3) / (4 * way), 1e-9);
  EXPECT_NEAR(hidden("train.recompute=block"), (4 * way + shared / 3) / (5 * way), 1e-9);
  // Of two or three chunks one shows, less what covers it; two are the default.
  EXPECT_EQ(Paper().expert_chunks(), 2);
  const double shown = std::max(0.0, way / 2 - shared / 3);
  EXPECT_NEAR(hidden("train.recompute=none", "2"), (4 * way - shown) / (4 * way), 1e-9);
  EXPECT_EQ(hidden("train.recompute=none", "0"), hidden("train.recompute=none", "2"));
  device.all_to_all *= 1e3;
  EXPECT_NEAR(hidden("train.recompute=none"), 1, 1e-9);
  device.all_to_all = 1;
  EXPECT_NEAR(hidden("train.recompute=none"), 0.5, 1e-6);
  EXPECT_NEAR(hidden("train.recompute=none", "4"), 1 - 0.5 / 4, 1e-6);
}

TEST(RankPlan, TrafficOfAStep) {
  const Recipe recipe = Paper({"train.recompute=none"});
  const StepTraffic traffic = TrafficOfStep(recipe, 8);
  // 64 micro-batches of 8192 tokens, 29 layers, forward and backward, rows of 2560 bf16.
  EXPECT_NEAR(traffic.dispatch / (64.0 * 8192 * 29 * 2 * ExpectedRemoteDestinations(recipe) * 5120),
              1, 1e-12);
  EXPECT_EQ(traffic.expert_gradient_sum, 0);
  const auto others = static_cast<double>(SharesOf(recipe, 8).others);
  EXPECT_DOUBLE_EQ(traffic.gradient_sum, 64 * others * 4 * 7 / 8);
  EXPECT_DOUBLE_EQ(traffic.weight_gather, others * 2 * 7 / 8);
  EXPECT_DOUBLE_EQ(TrafficOfStep(Paper({"parallel.zero=0"}), 8).gradient_sum,
                   2 * others * 4 * 7 / 8);
}

// By hand: every weight forward, those of all layers but the last once more backward.
TEST(RankPlan, WeightsThatAreGathered) {
  const Recipe recipe = Paper({"parallel.zero=3"});
  const auto others = static_cast<double>(SharesOf(recipe, 8).others);
  // All of these parameters are alike in the 29 last layers: the 30th is dense.
  const double embeddings = 2.0 * 102400 * 2560, dense = 3.0 * 2560 * 12288,
               sparse = 3.0 * 2560 * 2 * 1536 + 72.0 * 2560,
               layer = (others - embeddings - 2560 - dense - 29 * sparse) / 30 + sparse;
  EXPECT_NEAR(GatheredBy(recipe).layer, layer, 1);
  EXPECT_NEAR(TrafficOfStep(recipe, 8).weight_gather,
              64 * (others + others - embeddings - 2560 - layer) * 2 * 7 / 8, 1e6);
  const Recipe tied = Paper({"parallel.zero=3", "model.tie_embeddings=true"});
  EXPECT_NEAR(TrafficOfStep(tied, 8).weight_gather, TrafficOfStep(recipe, 8).weight_gather, 1e6);
  // Two layers' weights, or the head's and one's, and a bucket of 32 MiB of gradients.
  const int64_t more = EstimateMemory(recipe, 8).sharding - EstimateMemory(Paper(), 8).sharding;
  EXPECT_GE(static_cast<double>(more), 2 * std::min(2 * layer, layer + embeddings / 2));
  EXPECT_LE(static_cast<double>(more), 2 * (std::max(2 * layer, layer + embeddings / 2) + 8.4e6));
  // All experts on every rank: their weights are in shares, too.
  const Recipe alone = Paper({"parallel.zero=3", "parallel.expert=1"});
  EXPECT_EQ(EstimateMemory(alone, 8).weights / 2, (CountParameters(alone).total() + 7) / 8);
  EXPECT_GT(GatheredBy(alone).layer, layer + 72.0 * 3 * 2560 * 1536 - 1);
}

// Two nodes of eight: what a rank holds is a node's, and shares alone cross to the other.
TEST(RankPlan, SharesWithinANode) {
  const Recipe all = Paper({"parallel.zero=3", "train.global_batch=1024"}),
               node = Paper({"parallel.zero=3", "train.global_batch=1024", "parallel.shard=8"});
  const RankShares shares = SharesOf(node, 16);
  EXPECT_EQ(shares.other_weights, (shares.others + 7) / 8);
  EXPECT_EQ(shares.copies, 2);
  EXPECT_EQ(EstimateMemory(node, 16).weights, EstimateMemory(all, 8).weights);
  const StepTraffic within = TrafficOfStep(node, 16), over_all = TrafficOfStep(all, 16);
  EXPECT_DOUBLE_EQ(within.gradient_sum * 8 / 7, over_all.gradient_sum * 16 / 15);
  // Those of experts, which two ranks have, are the same.
  const double fewer = (15.0 / 16 - 7.0 / 8) * 64 * 2 * GatheredBy(all).micro_batch;
  EXPECT_NEAR((over_all.weight_gather - within.weight_gather) / fewer, 1, 1e-9);
  EXPECT_DOUBLE_EQ(within.copy_sum, 4.0 * static_cast<double>(shares.other_updates));
  EXPECT_EQ(over_all.copy_sum, 0);
  EXPECT_EQ(within.expert_gradient_sum, over_all.expert_gradient_sum);
}

// By hand, of the paper's widths: three outputs of 64 x 128 in bf16 and three f32 statistics of 64
// heads, of all layers but the one that backward is in, which has them either way.
TEST(RankPlan, WhatRecomputedAttentionKeeps) {
  const Recipe block = Paper({"train.recompute=block"}),
               keeps = Paper({"train.recompute=block", "train.recompute_keeps=attention"});
  const RankMemory a = EstimateMemory(block, 8), b = EstimateMemory(keeps, 8);
  const int64_t layer = int64_t{8192} * (3 * 64 * 128 * 2 + 3 * 64 * 4);
  EXPECT_NEAR(static_cast<double>(b.activations - a.activations), 30.0 * layer, 2);
  EXPECT_NEAR(static_cast<double>(b.total() - a.total()), 29.0 * layer, 4);
  const RankMemory full =
      EstimateMemory(Paper({"train.recompute=block", "model.attention=full"}), 8);
  const RankMemory full_keeps = EstimateMemory(
      Paper({"train.recompute=block", "train.recompute_keeps=attention", "model.attention=full"}),
      8);
  EXPECT_NEAR(static_cast<double>(full_keeps.activations - full.activations),
              30.0 * 8192 * (64 * 128 * 2 + 64 * 4), 2);
}

// By hand: every matrix but those whose product is a segment's last.
TEST(RankPlan, WhatIsComputedAgain) {
  const auto again = [](const std::vector<std::string>& overrides, double overload = 1) {
    return RecomputedFlopsPerToken(Paper(overrides), overload);
  };
  const TrainingFlops once = FlopsPerToken(Paper());
  const double attention = 30 * 2560.0 * (64 * 192 + 3 * 4 * (192 + 128) + 3 * 64),
               output = 30 * 2560.0 * 64 * 128, dense = 2 * 2560.0 * 12288,
               shared = 29 * 2560.0 * (2 * 2 * 1536 + 72), routed = 29 * 2560.0 * 6 * 2 * 1536;
  const auto near = [](double flops, double expected) { EXPECT_NEAR(flops / expected, 1, 1e-12); };
  EXPECT_EQ(again({"train.recompute=none"}), 0);
  near(again({"train.recompute=block"}),
       2 * (attention + output + dense + shared + routed) + (once.phi + once.attention) / 3);
  near(again({"train.recompute=block", "train.recompute_keeps=attention"}),
       2 * (attention + output + dense + shared + routed) + once.phi / 3);
  near(again({"train.recompute=[attention]"}), 2 * attention + (once.phi + once.attention) / 3);
  near(again({"train.recompute=[feed_forward]"}, 1.3), 2 * (dense + shared + 1.3 * routed));
  const StepTraffic none = TrafficOfStep(Paper({"train.recompute=none"}), 8),
                    block = TrafficOfStep(Paper({"train.recompute=block"}), 8);
  EXPECT_DOUBLE_EQ(block.dispatch, 1.5 * none.dispatch);
  EXPECT_EQ(block.combine, none.combine);
}

// Four ranks hold a quarter of a sample's rows each, but all of its keys and values.
TEST(RankPlan, SamplesOnSeveralRanks) {
  const Recipe whole = Paper({"train.recompute=none"}),
               shared = Paper({"train.recompute=none", "parallel.context=4"});
  const RankMemory a = EstimateMemory(whole, 8), b = EstimateMemory(shared, 8);
  EXPECT_EQ(b.states(), a.states());
  // 30 layers, 8192 tokens, 3 branches of 4 groups of 192 + 128 columns in bf16, and phi: a block of
  // 32 tokens, the hidden layer twice (2 D) and the row, every 16 tokens.
  const double layer = 8192.0 * 4 * (192 + 128) * 2, keys = 30 * layer * (3 + (32 + 4 + 1) / 16.0);
  EXPECT_NEAR(static_cast<double>(b.activations),
              (static_cast<double>(a.activations) - keys) / 4 + keys, 1e4);
  EXPECT_EQ(a.context, 0);
  EXPECT_DOUBLE_EQ(static_cast<double>(b.context), 2 * 3 * layer);
  // Rows of a quarter of the tokens; which moment is the largest may differ, and with it the rows that
  // are on their way then.
  const TokenMemory row = ReceivedKept(whole, kPlannedOverload);
  const double kept = 29 * 8192 * row.Bytes(DType::kBF16);
  EXPECT_NEAR(static_cast<double>(a.all_to_all), kept + 2 * kept / 29, 1e3);
  EXPECT_GE(static_cast<double>(b.all_to_all), kept / 4 * (1 - 1.0 / 29) - 1e3);
  EXPECT_LE(static_cast<double>(b.all_to_all), (kept + 2 * kept / 29) / 4 + 1e3);
  // 256 micro-batches of a group of four; forward and backward, three quarters from and to others.
  const StepTraffic before = TrafficOfStep(whole, 8), after = TrafficOfStep(shared, 8);
  EXPECT_EQ(before.keys, 0);
  EXPECT_DOUBLE_EQ(after.keys, 256 * 2 * 30 * 3 * layer * 3 / 4);
  EXPECT_DOUBLE_EQ(after.dispatch, before.dispatch);
  EXPECT_DOUBLE_EQ(after.gradient_sum, 4 * before.gradient_sum);
  EXPECT_DOUBLE_EQ(TrafficOfStep(Paper({"train.recompute=block", "parallel.context=4"}), 8).keys,
                   1.5 * after.keys);
}

TEST(RankPlan, ReplicasOfExpertsShareTheirUpdates) {
  const Recipe recipe = Paper({"parallel.expert=4"});
  const RankShares shares = SharesOf(recipe, 8);
  EXPECT_EQ(shares.expert_replicas, 2);
  EXPECT_EQ(shares.expert_updates, shares.experts / 2);
  EXPECT_EQ(SharesOf(Paper({"parallel.expert=4", "parallel.zero=0"}), 8).expert_updates,
            shares.experts);
  const StepTraffic traffic = TrafficOfStep(recipe, 8);
  const auto experts = static_cast<double>(shares.experts);
  EXPECT_DOUBLE_EQ(traffic.expert_gradient_sum, 64 * experts * 4 / 2);
  EXPECT_DOUBLE_EQ(traffic.weight_gather,
                   static_cast<double>(shares.others) * 2 * 7 / 8 + experts * 2 / 2);
}

// What the plan says of states is what the buffers of such a rank hold, up to padding.
TEST(RankPlan, StatesAreWhatIsAllocated) {
  for (const char* dtype : {"train.dtype=bf16", "train.dtype=f32"}) {
    for (const char* zero : {"parallel.zero=0", "parallel.zero=2", "parallel.zero=3"}) {
      constexpr int kRanks = 4;
      const auto recipe = ParseRecipe(test::kValidRecipe, "r.yaml", {dtype, zero}, kRanks);
      ASSERT_TRUE(recipe.ok()) << recipe.status();
      const RankMemory plan = EstimateMemory(*recipe, kRanks);
      for (const int rank : {0, kRanks - 1}) {
        const BuiltModel built =
            BuildModel(recipe->model, recipe->nsa, recipe->moe, {}, recipe->train.dtype, 1,
                       /*gradients=*/true, kCpu,
                       {.whole = {.size = kRanks, .rank = rank},
                        .parts = {},
                        .bucket_bytes = recipe->train.bucket_mb << 20,
                        .shard_updates = recipe->parallel.zero >= 2,
                        .shard_values = recipe->parallel.zero >= 3});
        AdamW optimizer(*built.parameters, recipe->optimizer);
        FlatParameters& flat = *built.parameters;
        // 16 elements for each parameter, 16 for each rank and bucket.
        const auto padding = static_cast<int64_t>(16 * flat.entries().size() +
                                                  16 * kRanks * flat.layout().buckets.size());
        const auto expect = [&](int64_t allocated, int64_t planned, int64_t element) {
          EXPECT_GE(allocated, planned) << dtype << " " << zero;
          EXPECT_LE(allocated, planned + padding * element) << dtype << " " << zero;
        };
        const bool copy = recipe->train.dtype == DType::kBF16;
        expect(flat.value().bytes(), plan.weights, SizeOf(flat.dtype()));
        expect(flat.grad().bytes(), plan.gradients, 4);
        expect(copy ? flat.master().bytes() : 0, plan.master, 4);
        expect(optimizer.first_moment().bytes() + optimizer.second_moment().bytes(), plan.moments,
               2 * SizeOf(optimizer.first_moment().dtype()));
      }
    }
  }
}

// What the plan says of a host's copies is what a rank reserves, up to padding and routers' biases.
TEST(RankPlan, HostMemoryIsWhatSavesReserve) {
  constexpr int kRanks = 4;
  for (const char* dtype : {"train.dtype=bf16", "train.dtype=f32"}) {
    for (const int zero : {0, 2}) {
      for (const int expert : {1, 2}) {
        const auto recipe =
            ParseRecipe(test::kValidRecipe, "r.yaml",
                        {dtype, fmt::format("parallel.zero={}", zero),
                         fmt::format("parallel.expert={}", expert), "train.checkpoint_every=1"},
                        kRanks);
        ASSERT_TRUE(recipe.ok()) << recipe.status();
        const int64_t plan = SnapshotMemory(*recipe, kRanks);
        for (const int rank : {0, kRanks - 1}) {
          const auto group = MakeRehearsalCommunicator({.rank = rank % expert, .size = expert});
          BuiltModel built =
              BuildModel(recipe->model, recipe->nsa, recipe->moe, {}, recipe->train.dtype, 1,
                         /*gradients=*/true, kCpu,
                         {.whole = {.size = kRanks, .rank = rank},
                          .parts = {.size = kRanks / expert, .rank = rank / expert},
                          .bucket_bytes = recipe->train.bucket_mb << 20,
                          .shard_updates = zero >= 2},
                         expert > 1 ? group.get() : nullptr);
          AdamW optimizer(*built.parameters, recipe->optimizer);
          const TrainingState share = ShareOf(TensorsOf(built, &optimizer), rank, kRanks);
          const int64_t bytes = StateSnapshot::BytesFor(share);
          const auto padding = static_cast<int64_t>(3 * 64 * built.parameters->entries().size());
          EXPECT_NEAR(static_cast<double>(bytes), static_cast<double>(plan),
                      static_cast<double>(padding))
              << dtype << " zero " << zero << " expert " << expert << " rank " << rank;
        }
      }
    }
  }
}

TEST(RankPlan, HostMemoryIsJudgedWhereItIsKnown) {
  const Recipe recipe = Paper();
  // 12 bytes of 27.93 B parameters.
  EXPECT_NEAR(8 * static_cast<double>(SnapshotMemory(recipe, 8)) / kGB, 12 * 27.93, 0.1);
  EXPECT_EQ(SnapshotMemory(Paper({"train.async_checkpoint=false"}), 8), 0);
  EXPECT_EQ(SnapshotMemory(Paper({"train.checkpoint_every=0"}), 8), 0);
  EXPECT_EQ(SnapshotMemory(Paper({"train.device=cpu", "train.memory_limit_gib=64"}), 8), 0);
  EXPECT_EQ(HostMemoryText(Paper({"train.async_checkpoint=false"}), {.ranks = 8}), "");
  EXPECT_EQ(HostMemoryText(recipe, {.ranks = 8}),
            "\nHost memory that saves in the background reserve (page-locked)\n"
            "  a rank                                     39.01 GiB   what it writes of a "
            "checkpoint\n"
            "  a host                                    312.12 GiB   8 ranks\n");
  EXPECT_THAT(HostMemoryText(recipe, {.ranks = 8, .host_memory_gib = 1024}),
              HasSubstr("8 ranks; fits, 711.88 GiB to spare\n"));
  EXPECT_THAT(HostMemoryText(recipe, {.ranks = 8, .host_memory_gib = 320}),
              HasSubstr("8 ranks; more than nine tenths of 320.00 GiB: training waits for each "
                        "save\n"));
  EXPECT_THAT(HostMemoryText(recipe, {.ranks = 8, .hosts = 2, .host_memory_gib = 320}),
              HasSubstr("4 ranks; fits, "));
}

TEST(RankPlan, WhatDoesNotFitIsRefusedWithWhatHelps) {
  const Recipe recipe = Paper();
  EXPECT_TRUE(CheckMemory(recipe, 8, "card", 80 * kGiB).ok());
  const absl::Status refused = CheckMemory(recipe, 8, "card", 60 * kGiB);
  EXPECT_EQ(ExitCodeOf(refused), ExitCode::kConfig);
  EXPECT_THAT(Message(refused), HasSubstr("a rank (8 ranks), card has 60.00 GiB: optimizer "));
  EXPECT_THAT(Message(refused), testing::ContainsRegex("optimizer.moments: f32 -> bf16 +saves"));
}

}  // namespace
}  // namespace lacuna
