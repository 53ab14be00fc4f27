// What a run reads: its tokenizer's identity, its training stream and its validation sets.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "data/loader.h"
#include "data/validation_set.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/run_state.h"

namespace lacuna {

struct RunInputs {
  uint64_t tokenizer_hash = 0;
  std::unique_ptr<DataLoader> loader;
  std::vector<std::unique_ptr<ValidationSet>> validation;
};

// Opens and verifies all of it. Errors: DataLoader::Open's, a tokenizer that is missing or has more
// tokens than the model, and, where the recipe has a chat template, a tokenizer without its special
// tokens and shards of conversations that were made with another template (all in one data error).
absl::StatusOr<RunInputs> OpenRunInputs(const Recipe& recipe, bool may_write_cache);

// The sources go on where a checkpoint left them, under the recipe's mix. A data error where one has
// other shards than the checkpoint was trained on. -> the mix's edit (MixtureJournal::Edit's line),
// empty where there is none.
absl::StatusOr<std::string> ContinueData(const RunState& state, const std::string& run_dir,
                                         RunInputs* inputs);
// What ContinueData will want to know, into the state to be saved.
void NoteData(const RunInputs& inputs, RunState* state);

// Bits per byte of each validation set for a model that predicts every token by its frequency in
// the training text alone. Empty where counting would take long (over 200 M tokens).
std::vector<std::pair<std::string, double>> UnigramBaselines(const RunInputs& inputs,
                                                             int64_t vocab_size);

}  // namespace lacuna
