#include "recipes/trainer/init_from.h"

#include <spdlog/spdlog.h>

#include <filesystem>
#include <optional>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "core/status.h"
#include "distributed/checkpoint_names.h"
#include "distributed/checkpoint_reader.h"
#include "recipes/trainer/checkpoints.h"

namespace lacuna {
namespace {

// Where a path points: all of a run's checkpoints, or one.
struct Place {
  std::string directory;
  std::optional<int64_t> step;
};

absl::StatusOr<Place> FindPlace(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  const std::string name =
      folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  if (const std::optional<int64_t> step = StepOfName(name)) {
    const auto checkpoint = folder.has_filename() ? folder : folder.parent_path();
    return Place{checkpoint.parent_path().string(), step};
  }
  if (HasCheckpoints(path)) return Place{CheckpointDirectory(path), std::nullopt};
  return CheckpointError(
      "init_from.path = {}: {}, must be the folder of a run with checkpoints, or of one "
      "checkpoint (step_N)",
      path, PathExists(path) ? "holds no checkpoint" : "No such file or directory");
}

}  // namespace

absl::StatusOr<InitReport> InitialiseFrom(const Recipe& recipe, uint64_t tokenizer_hash,
                                          BuiltModel& model, AdamW& optimizer, Communicator& comm) {
  const absl::StatusOr<Place> place = FindPlace(recipe.init_from.path);
  LACUNA_RETURN_IF_ERROR(AgreeOnStatus(comm, place.status(), AfterSeconds(comm.timeout_seconds())));
  const bool with_optimizer = recipe.init_from.load == InitLoad::kWeightsAndOptimizer;
  TrainingState model_tensors = TensorsOf(model, with_optimizer ? &optimizer : nullptr),
                tensors = OnHost(model_tensors);
  LoadOptions options;
  options.step = place->step;
  if (!with_optimizer) options.unused_groups = kOptimizerGroups;
  options.warn = [](const std::string& line) { spdlog::warn("init_from: {}", line); };
  LACUNA_ASSIGN_OR_RETURN(const LoadedCheckpoint loaded,
                          LoadCheckpoint(comm, place->directory, tensors, options));
  LACUNA_ASSIGN_OR_RETURN(const RunState state, FromScalars(tensors.scalars, loaded.path));
  if (state.tokenizer_hash != tokenizer_hash) {
    return CheckpointError(
        "{}: was trained with tokenizer {}, data.tokenizer = {} is {}: a model knows its own "
        "tokens only",
        loaded.path, ToHex(state.tokenizer_hash), recipe.data.tokenizer, ToHex(tokenizer_hash));
  }
  CopyBack(tensors, model_tensors);
  model.parameters->SyncValueFromMaster();
  if (with_optimizer) optimizer.set_num_updates(state.updates);
  InitReport report{.path = loaded.path,
                    .step = loaded.step,
                    .tokens = state.tokens,
                    .load = recipe.init_from.load,
                    .changed = {}};
  for (RecipeDifference& difference : DiffRecipes(recipe, loaded.recipe)) {
    const bool of_model = difference.key.starts_with("model.") ||
                          (recipe.uses_nsa() && difference.key.starts_with("nsa.")) ||
                          (recipe.uses_moe() && difference.key.starts_with("moe."));
    if (of_model) report.changed.push_back(std::move(difference));
  }
  return report;
}

}  // namespace lacuna
