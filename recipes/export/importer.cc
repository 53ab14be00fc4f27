#include "recipes/export/importer.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/numbers.h"
#include "core/io/file.h"
#include "core/status.h"
#include "data/safetensors_reader.h"
#include "data/strict_json.h"
#include "data/tokenizer/tokenizer.h"
#include "distributed/checkpoint_writer.h"
#include "distributed/run_lock.h"
#include "recipes/export/export_map.h"
#include "recipes/export/hf_config.h"
#include "recipes/trainer/checkpoints.h"

namespace lacuna {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 24;
constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 30;
constexpr int kMaxConfigDepth = 16;

// Dv of a folder whose value heads are padded; 0 where it says nothing of the kind.
absl::StatusOr<int64_t> ValueWidth(const SafetensorsFolder& folder) {
  int64_t width = 0;
  for (const SafetensorsReader& file : folder.files()) {
    const auto found = file.metadata().find("v_head_dim");
    if (found == file.metadata().end()) continue;
    int64_t value = 0;
    if (!absl::SimpleAtoi(found->second, &value) || value < 1 || (width != 0 && value != width))
      return DataError("{}: __metadata__: v_head_dim: found {}, expected one width for all files",
                       file.path(), Shown(found->second));
    width = value;
  }
  return width;
}

// A recipe that is valid, but for what only its owner knows: the data to train on.
Recipe DefaultRecipe(const ImportedConfig& imported) {
  Recipe recipe;
  recipe.run.name = "imported";
  recipe.data.sources = {{.name = "train", .path = "data/train*.h5", .weight = 1.0}};
  recipe.train.sequence_length = imported.max_positions;
  recipe.train.global_batch = 1;
  recipe.train.steps = 1;
  recipe.optimizer.warmup_steps = 0;
  return recipe;
}

// What config.json says goes before what the recipe says.
void TakeModel(const ImportedConfig& imported, Recipe* recipe) {
  recipe->model = imported.model;
  if (imported.model.attention == AttentionKind::kNsa) recipe->nsa = imported.nsa;
  if (imported.model.num_dense_layers == imported.model.num_layers) return;
  MoeConfig& moe = recipe->moe;
  moe.num_experts = imported.moe.num_experts;
  moe.experts_per_token = imported.moe.experts_per_token;
  moe.expert_width = imported.moe.expert_width;
  moe.num_shared = imported.moe.num_shared;
  moe.router = imported.moe.router;
  moe.normalize_weights = imported.moe.normalize_weights;
  moe.routed_scale = imported.moe.routed_scale;
}

absl::StatusOr<Recipe> MakeRecipe(const ImportOptions& options, const ImportedConfig& imported) {
  Recipe recipe = DefaultRecipe(imported);
  if (!options.recipe.empty()) {
    LACUNA_ASSIGN_OR_RETURN(recipe, LoadRecipe(options.recipe, {}, 1));
  }
  TakeModel(imported, &recipe);
  recipe.run.dir = options.run_dir;
  recipe.data.tokenizer = options.run_dir + "/tokenizer.json";
  std::vector<std::string> violations;
  ValidateRecipe(recipe, 1, &violations);
  if (!violations.empty())
    return ConfigError("{} with the model of {}: {}",
                       options.recipe.empty() ? "the default recipe" : options.recipe,
                       options.folder, fmt::join(violations, "; "));
  return recipe;
}

// Every tensor of the map, and no other, in its shape and in a type that widens exactly.
absl::Status CheckNames(const SafetensorsFolder& folder, const std::vector<ExportTensor>& map) {
  std::set<std::string> expected;
  for (const ExportTensor& exported : map) {
    expected.insert(exported.name);
    const auto found = folder.tensors().find(exported.name);
    if (found == folder.tensors().end())
      return DataError("{}: has no tensor {}", folder.files()[0].path(), Shown(exported.name));
    const SafetensorsEntry& entry = *found->second.entry;
    const std::vector<int64_t> shape(exported.shape.begin(), exported.shape.end());
    if (entry.shape != shape || (entry.type != "BF16" && entry.type != "F32"))
      return DataError("{}: tensor {}: is {} [{}], expected BF16 or F32 {}",
                       found->second.file->path(), Shown(entry.name), entry.type,
                       fmt::join(entry.shape, ", "), ToString(exported.shape));
  }
  for (const auto& [name, item] : folder.tensors()) {
    if (!expected.contains(name))
      return DataError("{}: tensor {}: is no part of the model that config.json describes",
                       item.file->path(), Shown(name));
  }
  return absl::OkStatus();
}

absl::Status Fill(const SafetensorsFolder& folder, const std::vector<ExportTensor>& map,
                  std::vector<NamedTensor>* tensors) {
  std::map<std::string, Tensor*> source_of;
  for (NamedTensor& tensor : *tensors) source_of[tensor.name] = &tensor.tensor;
  for (const ExportTensor& exported : map) {
    const SafetensorsFolder::Item& item = folder.tensors().at(exported.name);
    const DType dtype = *DTypeOfSafetensors(item.entry->type);
    if (!ScatterExported(exported, item.data(), dtype, source_of.at(exported.source)))
      return DataError(
          "{}: tensor {}: is not zero in the padding of its value heads, which are {} wide",
          item.file->path(), Shown(exported.name), exported.source_block);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SaveCheckpoint(const Recipe& recipe, BuiltModel& built,
                                           const Tokenizer& tokenizer) {
  const auto comm = MakeSelfCommunicator();
  TrainingState state = TensorsOf(built, nullptr);
  RunState run;  // of no step
  run.tokenizer_hash = tokenizer.hash();
  run.mixture = nlohmann::json::array();
  state.scalars = ToScalars(run);
  CheckpointWriter writer(*comm, {.directory = CheckpointDirectory(recipe.run.dir),
                                  .keep_latest = 0,
                                  .recipe = ToYaml(recipe)});
  LACUNA_ASSIGN_OR_RETURN(const SaveReport report, writer.Save(0, state));
  return report.path;
}

}  // namespace

absl::StatusOr<ImportSummary> ImportRun(const ImportOptions& options) {
  const std::string config_path = options.folder + "/config.json";
  LACUNA_ASSIGN_OR_RETURN(const nlohmann::json config,
                          ReadStrictJson(config_path, kMaxConfigBytes, kMaxConfigDepth));
  LACUNA_ASSIGN_OR_RETURN(const SafetensorsFolder folder, SafetensorsFolder::Open(options.folder));
  LACUNA_ASSIGN_OR_RETURN(const int64_t value_width, ValueWidth(folder));
  LACUNA_ASSIGN_OR_RETURN(const ImportedConfig imported,
                          ReadHfConfig(config, config_path, value_width));
  LACUNA_ASSIGN_OR_RETURN(
      const std::string tokenizer_text,
      ReadFile(options.folder + "/tokenizer.json", kMaxTokenizerBytes, ExitCode::kData));
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer,
                          Tokenizer::FromJson(tokenizer_text, options.folder + "/tokenizer.json"));
  ImportSummary summary;
  LACUNA_ASSIGN_OR_RETURN(summary.recipe, MakeRecipe(options, imported));
  const Recipe& recipe = summary.recipe;

  BuiltModel built = BuildModel(recipe.model, recipe.nsa, recipe.moe, {},
                                AccumulationType(recipe.train.dtype), 1, /*gradients=*/false);
  std::vector<NamedTensor> tensors = TensorsByName(built);
  LACUNA_ASSIGN_OR_RETURN(const std::vector<ExportTensor> map,
                          MapModel(tensors, recipe.model, imported.architecture));
  LACUNA_RETURN_IF_ERROR(CheckNames(folder, map));
  LACUNA_RETURN_IF_ERROR(Fill(folder, map, &tensors));
  summary.tensors = static_cast<int64_t>(map.size());
  for (const NamedTensor& tensor : tensors) summary.parameters += tensor.tensor.numel();

  LACUNA_ASSIGN_OR_RETURN(const RunLock lock, RunLock::Acquire(options.run_dir));
  if (HasCheckpoints(options.run_dir))
    return ConfigError("{}: holds the checkpoints of a run; import needs another folder",
                       options.run_dir);
  LACUNA_RETURN_IF_ERROR(WriteFileDurably(recipe.data.tokenizer, tokenizer_text, ExitCode::kData));
  LACUNA_RETURN_IF_ERROR(
      WriteFileDurably(options.run_dir + "/recipe.yaml", ToYaml(recipe), ExitCode::kConfig));
  LACUNA_ASSIGN_OR_RETURN(summary.checkpoint, SaveCheckpoint(recipe, built, tokenizer));
  return summary;
}

}  // namespace lacuna
