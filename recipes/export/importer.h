// lacuna import: a folder as lacuna export writes it (or any Glm4Moe of the same kind) as a run.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct ImportOptions {
  std::string folder;
  std::string run_dir;  // must not hold checkpoints yet
  // Where the keys come from that config.json does not know; empty: defaults. Its sections model,
  // nsa and moe give what the folder does not say (how the model is to be trained further).
  std::string recipe;
};

struct ImportSummary {
  Recipe recipe;
  std::string checkpoint;  // path
  int64_t tensors = 0;     // of the folder
  int64_t parameters = 0;
};

// Makes run_dir with tokenizer.json, recipe.yaml and a checkpoint of step 0 that holds the model's
// tensors, without optimizer state. Weights are widened to the run's master type: nothing is
// rounded. Errors are DataErrors of the folder (a tensor that is missing, left over, of another
// shape, or not zero where it must be padding) or ConfigErrors of the recipe and run_dir.
absl::StatusOr<ImportSummary> ImportRun(const ImportOptions& options);

}  // namespace lacuna
