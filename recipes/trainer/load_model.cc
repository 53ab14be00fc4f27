#include "recipes/trainer/load_model.h"

#include <spdlog/spdlog.h>

#include "core/status.h"
#include "distributed/checkpoint_reader.h"
#include "recipes/trainer/checkpoints.h"
#include "recipes/trainer/device.h"

namespace lacuna {
namespace {

// The checkpoint to take: its recipe is needed before its tensors can be asked for.
absl::StatusOr<CheckpointInfo> Find(const std::string& directory, int64_t step) {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all, ListCheckpoints(directory));
  std::string damage;  // of the first that is meant
  for (const CheckpointInfo& info : all) {
    if (step != 0 && info.step != step) continue;
    if (info.status.ok()) return info;
    if (damage.empty()) damage = Message(info.status);
  }
  if (step != 0 && !damage.empty()) return CheckpointError("{}", damage);
  if (step != 0) return CheckpointError("{}: has no checkpoint of step {}", directory, step);
  if (damage.empty()) return CheckpointError("{}: has no checkpoint", directory);
  return CheckpointError("{}: has no checkpoint that is whole ({})", directory, damage);
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& run_dir, int64_t step,
                                      const LoadModelOptions& options) {
  const std::string directory = CheckpointDirectory(run_dir);
  LACUNA_ASSIGN_OR_RETURN(const CheckpointInfo info, Find(directory, step));
  LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(info.path));
  LoadedModel loaded;
  LACUNA_ASSIGN_OR_RETURN(
      loaded.recipe,
      ParseRecipe(reader.manifest().recipe, info.path + "/MANIFEST.json", options.overrides, 1));
  LACUNA_ASSIGN_OR_RETURN(const Device device,
                          ChooseDevice(options.device, loaded.recipe, "--device cuda"));
  const DType dtype = loaded.recipe.train.dtype;
  loaded.model = BuildModel(loaded.recipe.model, loaded.recipe.nsa, loaded.recipe.moe, {},
                            options.full_precision ? AccumulationType(dtype) : dtype, 1,
                            /*gradients=*/false, device);
  TrainingState model_tensors = TensorsOf(loaded.model, nullptr), tensors = OnHost(model_tensors);
  LoadOptions load;
  if (step != 0) load.step = step;
  load.unused_groups = kOptimizerGroups;
  load.warn = [](const std::string& line) { spdlog::warn("{}", line); };
  const auto comm = MakeSelfCommunicator();
  LACUNA_ASSIGN_OR_RETURN(const LoadedCheckpoint checkpoint,
                          LoadCheckpoint(*comm, directory, tensors, load));
  CopyBack(tensors, model_tensors);
  loaded.model.parameters->SyncValueFromMaster();
  loaded.path = checkpoint.path;
  LACUNA_ASSIGN_OR_RETURN(loaded.state, FromScalars(tensors.scalars, checkpoint.path));
  return loaded;
}

absl::StatusOr<Tokenizer> LoadTokenizer(const LoadedModel& loaded) {
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(loaded.recipe.data.tokenizer));
  if (tokenizer.hash() != loaded.state.tokenizer_hash) {
    return DataError("{}: is not the tokenizer that the checkpoint was trained with",
                     loaded.recipe.data.tokenizer);
  }
  return tokenizer;
}

}  // namespace lacuna
