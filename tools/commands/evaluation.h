// What the commands of lacuna eval share.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/validation_set.h"
#include "recipes/trainer/load_model.h"
#include "tools/command.h"
#include "tools/commands/device_option.h"

namespace lacuna::tools {

// What every evaluation takes.
struct RunArguments {
  std::string run_dir;
  int64_t step = 0;
  std::vector<std::string> overrides;
  std::string output;
  int threads = 0;
  DeviceChoice device = DeviceChoice::kAuto;
};

CLI::App* AddEvaluation(CLI::App* eval, const char* name, const char* about, RunArguments* run);

// The run's model; says which and where.
absl::StatusOr<LoadedModel> LoadEvaluated(const RunArguments& run);
// Writes results with the usual header, and says where.
absl::Status ReportEvaluation(const RunArguments& run, const char* name, const LoadedModel& loaded,
                              const nlohmann::ordered_json& results);
// The recipe's i-th validation set.
absl::StatusOr<std::unique_ptr<ValidationSet>> OpenValidationSet(const LoadedModel& loaded,
                                                                 size_t i, int64_t length);

void AddSelection(CLI::App* eval, Runner& run);  // tools/commands/eval_selection.cc

}  // namespace lacuna::tools
