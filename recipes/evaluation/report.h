// What the evaluations share: where their results go, and numbers for people.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "recipes/trainer/load_model.h"

namespace lacuna {

// <run_dir>/eval/<name>.json, or `output` where that is given.
std::string ReportPath(const std::string& run_dir, const std::string& name,
                       const std::string& output);
// "runs/a/eval/x.json" -> "runs/a/eval/x.jsonl".
std::string LinesPath(const std::string& report_path);
// Indented; the folder is made where it does not exist.
absl::Status WriteReport(const std::string& path, const nlohmann::ordered_json& report);

// {"evaluation": name, "run": ..., "checkpoint": ..., "step": ..., "set": [overrides], "device":
// "cpu" or the card's name}: how every report begins.
nlohmann::ordered_json ReportHeader(const std::string& name, const LoadedModel& loaded,
                                    const std::string& run_dir,
                                    const std::vector<std::string>& overrides);

// "87.5 %"; "-" where there is nothing to divide by.
std::string Percent(double part, double whole);

// The 95 % interval of a share of which `hits` of `trials` were seen (Wilson, 1927).
struct Interval {
  double low = 0, high = 1;
};
Interval WilsonInterval(int64_t hits, int64_t trials);

}  // namespace lacuna
