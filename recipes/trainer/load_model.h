// The model of a finished or running run, for generation and evaluation.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/run_state.h"

namespace lacuna {

struct LoadedModel {
  Recipe recipe;
  BuiltModel model;
  RunState state;
  std::string path;  // of the checkpoint
};

// From the checkpoint of `step` in run_dir, or with step 0 from the last one that is whole. The
// recipe is the checkpoint's own. The model can only be run forward (no gradient buffers). With
// `full_precision` it computes in the type of its master weights: in f32 where it was trained in
// bf16.
absl::StatusOr<LoadedModel> LoadModel(const std::string& run_dir, int64_t step,
                                      bool full_precision = false);

}  // namespace lacuna
