// Every row of `lacuna bench cuda` runs, on the CPU at a size that takes no time, and is measured and
// reported.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "core/stream.h"
#include "recipes/benchmark/bench_report.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/block_lists.h"
#include "recipes/benchmark/layer_benchmark.h"

namespace lacuna {
namespace {

BenchSizes Small(BenchRouting routing = BenchRouting::kReal) {
  BenchSizes sizes;
  sizes.tokens = 48;
  sizes.routing = routing;
  sizes.model.width = 16;
  sizes.model.vocab_size = 40;
  sizes.model.num_heads = 4;
  sizes.model.num_groups = 2;
  sizes.model.head_dim_qk = 8;
  sizes.model.head_dim_v = 4;
  sizes.model.rotary_dims = 4;
  sizes.model.dense_width = 12;
  sizes.moe.num_experts = 6;
  sizes.moe.experts_per_token = 3;
  sizes.moe.expert_width = 8;
  sizes.moe.num_shared = 1;
  sizes.nsa.block = 8;
  sizes.nsa.stride = 4;
  sizes.nsa.select_block = 8;
  sizes.nsa.num_selected = 4;
  sizes.nsa.window = 16;
  sizes.parameters = 100;
  sizes.square = 16;
  sizes.copy_bytes = 4096;
  return sizes;
}

TEST(BenchmarkRows, AllRunAndAreNamedOnce) {
  const BenchSizes sizes = Small();
  std::vector<BenchRow> rows = OpRows(sizes, kCpu);
  for (BenchRow& row : LayerRows(sizes, kCpu)) rows.push_back(std::move(row));
  EXPECT_GE(rows.size(), 70u);
  std::set<RowKey> names;
  for (const BenchRow& row : rows) {
    SCOPED_TRACE(row.op);
    EXPECT_TRUE(names.insert({row.op, row.tokens}).second);
    EXPECT_GT(row.work, 0);
    EXPECT_FALSE(row.formula.empty());
    const BenchCall call = row.prepare();
    for (const int64_t i : {0, 1, 70}) call(i);  // 70: more than there are input sets
  }
}

TEST(BenchmarkDecode, IsMeasuredAndReported) {
  const BenchSizes sizes = Small();
  DeviceTimer timer(kCpu, 1e-3);
  BenchReport report;
  report.ceilings.bytes_per_second = 1e9;
  report.decode = {MeasureDecodeFull(sizes, 2, 40, kCpu, timer),
                   MeasureDecodeNsa(sizes, 2, 40, kCpu, timer)};
  // The four steps to 40 tokens: 38.5 on average, 2 G (Dk + Dv) bytes each.
  EXPECT_DOUBLE_EQ(report.decode[0].bytes, 2 * 38.5 * 2 * 12 * 2);
  EXPECT_LT(report.decode[1].tokens_read, TokensOfDecodeStep(sizes.nsa, 40) + 1);
  for (const DecodeResult& result : report.decode) EXPECT_GT(result.milliseconds, 0);
  const std::string line = Line(report.decode[1], &report.decode[0], report.ceilings);
  EXPECT_NE(line.find("decode_nsa 2 x 40"), std::string::npos) << line;
  EXPECT_NE(line.find("faster"), std::string::npos) << line;
  EXPECT_EQ(ToJson(report).at("decode").size(), 2u);
}

TEST(BenchmarkRows, AttentionOfSeveralLengthsAndPatterns) {
  BenchSizes sizes = Small();
  sizes.lengths = {64, 96};
  const NsaConfig& nsa = sizes.nsa;
  for (const BenchPattern pattern :
       {BenchPattern::kRandom, BenchPattern::kLocal, BenchPattern::kFile}) {
    sizes.pattern = pattern;
    sizes.keep = 0.5;
    sizes.lists = std::make_shared<BlockLists>(LocalLists(100, 2, nsa, 0.5, 3));
    BenchRows rows;
    AddAttentionRows(sizes, kCpu, rows);
    std::set<RowKey> of_lists;
    for (const BenchRow& row : rows.rows) {
      SCOPED_TRACE(std::string(NameOf(pattern)) + " " + row.op + " " + std::to_string(row.tokens));
      const BenchCall call = row.prepare();
      for (const int64_t i : {0, 1}) call(i);
      if (!row.lists) continue;
      of_lists.insert({row.op, row.tokens});
      const ListStatistics lists = row.lists();
      EXPECT_EQ(lists.pattern, NameOf(pattern));
      EXPECT_GT(lists.of_adjacent, lists.of_token);
      EXPECT_GT(lists.of_far_adjacent, lists.of_adjacent);
      if (pattern == BenchPattern::kFile) {
        EXPECT_EQ(lists.of_token, BlocksOfToken(FirstTokens(*sizes.lists, row.tokens)));
      }
    }
    std::set<RowKey> expected;
    for (const char* op : {"selected_attention_fwd", "selected_attention_bwd",
                           "nsa_attention_core_fwd", "nsa_attention_core_bwd"})
      for (const int64_t tokens : sizes.lengths) expected.insert({op, tokens});
    EXPECT_EQ(of_lists, expected);
  }
}

// The paper's Table 4, less its rounding.
TEST(BenchmarkRows, TokensOfADecodeStep) {
  for (const auto& [context, tokens] : std::initializer_list<std::pair<int64_t, int64_t>>{
           {8192, 2047}, {16384, 2559}, {32768, 3583}, {65536, 5631}, {1, 2}, {31, 62}})
    EXPECT_EQ(TokensOfDecodeStep({}, context), tokens);
  const BenchSizes sizes = Small();
  std::map<RowKey, double> work;
  for (const BenchRow& row : OpRows(sizes, kCpu)) work[{row.op, row.tokens}] = row.work;
  EXPECT_EQ((work[{"decode_full", 48}]), 8 * 2 * 48 * 2 * 12);
  EXPECT_EQ((work[{"decode_nsa", 48}]), 8 * 2 * (11 + 32 + 16) * 2 * 12);
}

// What comes before a call is done for each, and is no part of its time.
TEST(BenchmarkRows, WhatComesBeforeACallIsNotTimed) {
  DeviceTimer timer(kCpu, 0.0);
  int64_t ready = 0, missing = 0;
  const auto wait = [](int milliseconds) {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  };
  const Timing timing = timer.Measure(BenchCall{[&](int64_t) { missing += --ready < 0; },
                                                [&](int64_t) {
                                                  wait(20);
                                                  ++ready;
                                                }});
  EXPECT_EQ(missing, 0);
  EXPECT_EQ(ready, 0);
  EXPECT_EQ(timing.calls, 1);
  EXPECT_LT(timing.milliseconds, 10);
}

TEST(BenchmarkRows, WorkIsWhatTheFormulasSay) {
  const BenchSizes sizes = Small();
  std::map<RowKey, double> work;
  for (const BenchRow& row : OpRows(sizes, kCpu)) work[{row.op, row.tokens}] = row.work;
  const int64_t n = 48;
  EXPECT_EQ((work[{"add", 4 * n}]), 6 * 192 * 16);
  EXPECT_EQ((work[{"adamw", 0}]), 30 * 100);
  EXPECT_EQ((work[{"adamw_bf16_moments", 0}]), 22 * 100);
  EXPECT_EQ((work[{"grouped_up_dx", n}]), 2 * 144 * 16 * 16);
  EXPECT_EQ((work[{"attention_fwd", n}]), 2 * 4 * (48 * 49 / 2) * 12);
  EXPECT_EQ((work[{"attention_bwd", n}]), 2 * 4 * (48 * 49 / 2) * (3 * 8 + 2 * 4));
}

TEST(BenchmarkRows, RoutingSpreadsRowsAsAsked) {
  const auto counts = [](BenchRouting routing) {
    const BenchSizes sizes = Small(routing);
    const RoutedChoices routed = RouteRows(sizes, 600, kCpu);
    const int64_t* offsets = routed.offsets.data<int64_t>();
    const int32_t* ids = routed.ids.data<int32_t>();
    for (int64_t n = 0; n < 600; ++n)
      EXPECT_EQ((std::set<int32_t>(ids + 3 * n, ids + 3 * n + 3).size()), 3u);
    std::vector<int64_t> rows;
    for (int64_t e = 0; e < 6; ++e) rows.push_back(offsets[e + 1] - offsets[e]);
    EXPECT_EQ(offsets[6], 1800);
    return rows;
  };
  EXPECT_EQ(counts(BenchRouting::kForced), std::vector<int64_t>(6, 300));
  const std::vector<int64_t> zipf = counts(BenchRouting::kZipf);
  EXPECT_GT(zipf[0], 3 * zipf[5] / 2);
  EXPECT_GT(zipf[0], zipf[3]);
  counts(BenchRouting::kReal);
}

TEST(BenchmarkRows, MeasuredAndReported) {
  const BenchSizes sizes = Small();
  DeviceTimer timer(kCpu, 0.0);
  BenchReport report;
  report.ceilings = MeasureCeilings(sizes, kCpu, timer);
  EXPECT_GT(report.ceilings.flops_per_second, 0);
  EXPECT_GT(report.ceilings.bytes_per_second, 0);
  for (const BenchRow& row : OpRows(sizes, kCpu)) {
    if (row.op != "add") continue;
    report.rows.push_back({.section = "ops",
                           .row = row,
                           .timing = timer.Measure(row),
                           .ceiling = report.ceilings.Of(row.bound)});
    EXPECT_GE(report.rows.back().timing.samples, 5);
    EXPECT_GT(report.rows.back().timing.milliseconds, 0);
  }
  ASSERT_EQ(report.rows.size(), 2u);
  report.torch = "9.9";
  report.torch_rows[{"add", 48}].milliseconds = 3 * report.rows[0].timing.milliseconds;
  report.torch_rows[{"add", 48}].triton_milliseconds = 5 * report.rows[0].timing.milliseconds;
  report.torch_rows[{"add", 192}].left_out = "no reason";
  report.torch_rows[{"add", 192}].triton_left_out = "none here";
  report.rows[0].lists = {
      .pattern = "local", .of_token = 4, .of_adjacent = 6, .of_far_adjacent = 9};
  EXPECT_NE(
      Line(report.rows[0]).find("; local lists: 4.0 blocks a token, 6.0 of 4 adjacent, 9.0 of 12"),
      std::string::npos);
  const std::string table = PeerTable(report);
  EXPECT_NE(table.find("3.00x"), std::string::npos) << table;
  EXPECT_NE(table.find("left out: no reason"), std::string::npos) << table;
  EXPECT_NE(table.find("5.00x  Triton"), std::string::npos) << table;
  EXPECT_NE(table.find("Triton left out: none here"), std::string::npos) << table;
  const nlohmann::json json = ToJson(report);
  EXPECT_EQ(json["rows"][0]["bytes"], 6 * 48 * 16);
  EXPECT_EQ(json["rows"][1]["torch_left_out"], "no reason");
  EXPECT_EQ(json["rows"][0]["lists"]["distinct_of_12"], 9);
  EXPECT_EQ(json["rows"][0]["triton_ms"], 5 * report.rows[0].timing.milliseconds);
  EXPECT_EQ(json["rows"][1]["triton_left_out"], "none here");
}

// The input, the pre-activations of routed and shared experts, the shared experts' activations, and
// small things of the router: neither permuted rows nor experts' outputs.
TEST(BenchmarkRows, ExpertsHoldLittleForTheBackwardPass) {
  const BenchSizes sizes = Small();
  int64_t rows = 0;
  for (const BenchRow& row : LayerRows(sizes, kCpu)) {
    if (row.op != "moe_fwd_bwd") continue;
    ++rows;
    const int64_t n = row.tokens, held = row.held(), least = 2 * n * (16 + 3 * 2 * 8 + 2 * 8 + 8),
                  router = n * 4 * (2 * 6 + 1 + 3 * 3) + 8 * 7;
    EXPECT_GE(held, least) << n;
    EXPECT_LE(held, least + 2 * router) << n;
  }
  EXPECT_EQ(rows, 2);
}

TEST(BenchmarkRows, LossTakesAChunkOfLogits) {
  BenchSizes sizes = Small();
  sizes.model.vocab_size = 2000;
  const LossMemory memory = MeasureLossMemory(sizes, 4096, kCpu);
  EXPECT_EQ(memory.logits_bytes, 4096 * 2000 * 2);
  // A chunk of 1024 rows, the gradient of the hidden states, and little else.
  EXPECT_GT(memory.extra_bytes, 1024 * 2000 * 2);
}

}  // namespace
}  // namespace lacuna
