// lacuna export: a run's model as a folder that Hugging Face's libraries load, checked before it
// appears.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "recipes/export/report.h"

namespace lacuna {

struct ExportOptions {
  std::string run_dir;
  std::string out_dir;  // must not exist, or be empty
  int64_t step = 0;     // 0: the last checkpoint that is whole
  // None: glm4_moe for full attention, nsa_moe for sparse attention.
  std::optional<ExportArchitecture> architecture = {};
  int transformers = 5;        // major version to write config.json for, 4 or 5
  DType dtype = DType::kBF16;  // or f32; the router stays f32
  int64_t probe_tokens = 0;    // 0: see DefaultProbeTokens
  int64_t max_file_bytes = kSafetensorsFileBytes;
};

struct ExportSummary {
  ExportFacts facts;
  Probe probe;
  Verification verification;
  LogitAgreement rounding;
};

// The folder is written under a temporary name, read back by ReferenceModel, compared with the
// model (VerifyExport) and only then renamed; on an error nothing is left. Errors: ConfigError for
// what cannot be asked for, CheckpointError for a checkpoint or a comparison that fails, DataError
// for files.
absl::StatusOr<ExportSummary> ExportRun(const ExportOptions& options);

}  // namespace lacuna
