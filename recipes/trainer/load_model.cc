#include "recipes/trainer/load_model.h"

#include <spdlog/spdlog.h>

#include "core/status.h"
#include "distributed/checkpoint_reader.h"
#include "recipes/trainer/checkpoints.h"

namespace lacuna {
namespace {

// The checkpoint to take: its recipe is needed before its tensors can be asked for.
absl::StatusOr<CheckpointInfo> Find(const std::string& directory, int64_t step) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all, ListCheckpoints(directory));
  for (const CheckpointInfo& info : all) {
    if (info.status.ok() && (step == 0 || info.step == step)) return info;
  }
  if (step != 0) return CheckpointError("{}: has no checkpoint of step {}", directory, step);
  return CheckpointError("{}: has no checkpoint", directory);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& run_dir, int64_t step,
                                      bool full_precision) {
  const std::string directory = CheckpointDirectory(run_dir);
  LACUNA_ASSIGN_OR_RETURN(const CheckpointInfo info, Find(directory, step));
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(info.path));
  LoadedModel loaded;
  LACUNA_ASSIGN_OR_RETURN(
      loaded.recipe, ParseRecipe(reader.manifest().recipe, info.path + "/MANIFEST.json", {}, 1));
  const DType dtype = loaded.recipe.train.dtype;
  loaded.model = BuildModel(loaded.recipe.model, loaded.recipe.nsa, loaded.recipe.moe, {},
                            full_precision ? AccumulationType(dtype) : dtype, 1,
                            /*gradients=*/false);
  TrainingState tensors = TensorsOf(loaded.model, nullptr);
  LoadOptions options;
  if (step != 0) options.step = step;
  options.allow_unused = true;
  options.warn = [](const std::string& line) { spdlog::warn("{}", line); };
  const auto comm = MakeSelfCommunicator();
  LACUNA_ASSIGN_OR_RETURN(const LoadedCheckpoint checkpoint,
                          LoadCheckpoint(*comm, directory, tensors, options));
  loaded.model.parameters->SyncValueFromMaster();
  loaded.path = checkpoint.path;
  loaded.state.step = checkpoint.step;
  loaded.state.data_fingerprint = tensors.scalars.at("data_fingerprint");
  loaded.state.tokenizer_hash =
      std::stoull(tensors.scalars.at("tokenizer_hash").get<std::string>(), nullptr, 16);
  return loaded;
}

}  // namespace lacuna
