// What `lacuna bench cuda` found: lines for people, JSON for programs.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json_fwd.hpp"
#include "recipes/benchmark/decode_benchmark.h"
#include "recipes/benchmark/device_timer.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/benchmark/step_benchmark.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct RowResult {
  std::string section;  // ops or layers
  BenchRow row;         // `prepare` is not needed any more
  Timing timing;
  double ceiling = 0;                                  // bytes or FLOPs a second
  std::optional<int64_t> held_bytes = std::nullopt;    // BenchRow::held
  std::optional<ListStatistics> lists = std::nullopt;  // BenchRow::lists

  double per_second() const { return 1e3 * row.work / timing.milliseconds; }
  double ratio() const { return per_second() / ceiling; }
};

// What the PyTorch twin says of a row: a time, or why it has none.
struct TorchResult {
  std::optional<double> milliseconds;
  std::optional<int64_t> held_bytes;
  std::string left_out;
  // Of the rows that a kernel in Triton has, too.
  std::optional<double> triton_milliseconds = std::nullopt;
  std::string triton_left_out = {};
};
using RowKey = std::pair<std::string, int64_t>;  // BenchRow::op, tokens

struct StepsResult {
  std::string recipe;  // with what was changed of it
  StepTimes times;
  int64_t parameters = 0;
  double flops_per_token = 0;
  int64_t peak_bytes = 0;
  double per_second() const { return times.tokens_per_second() * flops_per_token; }
};

struct BenchReport {
  std::string device, driver;
  std::string date;  // of the beginning, "2026-11-27T01:02:03Z"
  Ceilings ceilings;
  std::vector<RowResult> rows;
  std::optional<LossMemory> loss_memory;
  std::optional<StepsResult> steps;
  std::vector<DecodeResult> decode = {};
  std::string torch;  // its version; empty where it was not run
  std::map<RowKey, TorchResult> torch_rows;
};

// One line each, without the end of line.
std::string Line(const Ceilings& ceilings);
std::string Line(const RowResult& result);
std::string Line(const LossMemory& memory);
// `full`: of the same batch and length, to compare with, or null.
std::string Line(const DecodeResult& result, const DecodeResult* full, const Ceilings& ceilings);
std::string Lines(const StepsResult& steps, const Ceilings& ceilings);
// Every row beside its twin; then what layers hold for their backward passes.
std::string PeerTable(const BenchReport& report);

nlohmann::json ToJson(const BenchReport& report);

}  // namespace lacuna
