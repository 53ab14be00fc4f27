// The model of a finished or running run, for generation and evaluation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer/tokenizer.h"
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

struct LoadModelOptions {
  std::vector<std::string> overrides;  // of keys of the recipe: "model.yarn.factor=4"
  // The model computes in the type of its master weights: in f32 where it was trained in bf16.
  bool full_precision = false;
  // Where it computes, whatever train.device says; kCuda is refused as `--device cuda` where there is
  // no card for the model (recipes/trainer/device.h).
  DeviceChoice device = DeviceChoice::kCpu;
};

// From the checkpoint of `step` in run_dir, or with step 0 from the last one that is whole. The
// recipe is the checkpoint's own with the overrides applied; the model must still have the
// checkpoint's tensors.
absl::StatusOr<LoadedModel> LoadModel(const std::string& run_dir, int64_t step,
                                      const LoadModelOptions& options = {});

// The recipe's tokenizer; a data error where it is not the one the checkpoint was trained with.
absl::StatusOr<Tokenizer> LoadTokenizer(const LoadedModel& loaded);

}  // namespace lacuna
