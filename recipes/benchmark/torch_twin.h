// The rows of a report once more in PyTorch (tools/bench_torch.py), on the same card.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "recipes/benchmark/bench_report.h"

namespace lacuna {

// PyTorch's version, of an interpreter that can run the script on a card; a ConfigError otherwise.
absl::StatusOr<std::string> FindTorch(const std::string& python, const std::string& script);

// Fills report->torch_rows for every row. Memory that this process keeps unused should be given back
// before (ReleaseCudaCache).
absl::Status RunTorchTwin(const std::string& python, const std::string& script,
                          const BenchSizes& sizes, BenchReport* report);

}  // namespace lacuna
