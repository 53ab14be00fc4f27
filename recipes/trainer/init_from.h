// A stage that starts from the model another run left (section init_from of the recipe).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/communicator.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/recipe_diff.h"

namespace lacuna {

struct InitReport {
  std::string path;  // of the checkpoint
  int64_t step = 0;
  int64_t tokens = 0;  // targets that its run had trained on
  InitLoad load = InitLoad::kWeights;
  // Keys of the model whose values differ without changing a shape (a YaRN factor, a window).
  std::vector<RecipeDifference> changed;
};

// Collective. Fills the model, and the optimizer's moments and count of updates where the recipe
// asks for them, from init_from.path: the last whole checkpoint of a run, or that checkpoint. The
// step, the schedule and the data begin anew.
// A checkpoint error, the same on every rank, where there is none, a tensor is missing, left over
// or of another shape (all of them listed, a line each), or it was trained with another tokenizer
// than `tokenizer_hash`.
absl::StatusOr<InitReport> InitialiseFrom(const Recipe& recipe, uint64_t tokenizer_hash,
                                          BuiltModel& model, AdamW& optimizer, Communicator& comm);

}  // namespace lacuna
