#include "recipes/trainer/checkpoints.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/status.h"

namespace lacuna {
namespace {

std::string Hex(uint64_t value) {
  return fmt::format("{:016x}", value);
}

// "section.key" -> the text of its value, for every key of a resolved recipe (two spaces of
// indentation a level).
std::map<std::string, std::string> KeyValues(const std::string& yaml) {
  std::map<std::string, std::string> values;
  std::vector<std::string> path;
  size_t begin = 0;
  while (begin < yaml.size()) {
    const size_t end = std::min(yaml.find('\n', begin), yaml.size());
    const std::string line = yaml.substr(begin, end - begin);
    begin = end + 1;
    const size_t indent = line.find_first_not_of(" -"), colon = line.find(':', indent);
    if (indent == std::string::npos || colon == std::string::npos) continue;
    path.resize(std::min(path.size(), indent / 2));
    path.push_back(line.substr(indent, colon - indent));
    if (colon + 2 > line.size()) continue;
    std::string key;
    for (const std::string& part : path) key += (key.empty() ? "" : ".") + part;
    // Lists of sections repeat their keys; the values stand one after the other.
    std::string& value = values[key];
    value += (value.empty() ? "" : ", ") + line.substr(colon + 2);
  }
  return values;
}

// Keys that say where, how long and how a run is carried out, not what it computes.
bool SaysOnlyHow(const std::string& key) {
  static const std::vector<std::string> keys = {"run.name",
                                                "run.dir",
                                                "data.cache",
                                                "data.tokenizer",
                                                "data.sources.path",
                                                "data.validation.name",
                                                "data.validation.path",
                                                "train.threads",
                                                "train.micro_batch",
                                                "train.recompute",
                                                "train.checkpoint_every",
                                                "train.keep_latest",
                                                "train.eval_every",
                                                "train.eval_samples",
                                                "train.log_every",
                                                "train.max_nonfinite_steps",
                                                "train.bucket_mb"};
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

}  // namespace

std::string CheckpointDirectory(const std::string& run_dir) {
  return run_dir + "/checkpoints";
}

bool HasCheckpoints(const std::string& run_dir) {
  const auto list = ListCheckpoints(CheckpointDirectory(run_dir));
  return list.ok() && !list->empty();
}

TrainingState TensorsOf(BuiltModel& model, AdamW* optimizer) {
  TrainingState state;
  const FlatParameters& parameters = *model.parameters;
  const auto add = [&](const char* group, Tensor& flat) {
    for (const FlatParameters::Entry& entry : parameters.entries()) {
      state.Add(std::string(group) + "/" + entry.parameter->name,
                flat.View(entry.offset, entry.parameter->shape));
    }
  };
  add("model", model.parameters->master());
  model.model->ForEachBuffer(
      [&](const std::string& name, Tensor& buffer) { state.Add("buffer/" + name, buffer); });
  if (optimizer != nullptr) {
    add("adamw_m", optimizer->first_moment());
    add("adamw_v", optimizer->second_moment());
  }
  return state;
}

Checkpoints::Checkpoints(const Recipe& recipe, const std::vector<std::string>& allow,
                         BuiltModel& model, AdamW& optimizer, Communicator& comm)
    : recipe_(recipe),
      allow_(allow),
      model_(model),
      optimizer_(optimizer),
      comm_(comm),
      writer_(comm, {.directory = CheckpointDirectory(recipe.run.dir),
                     .keep_latest = static_cast<int>(recipe.train.keep_latest),
                     .recipe = ToYaml(recipe)}) {}

absl::StatusOr<std::string> Checkpoints::Save(const RunState& state) {
  TrainingState tensors = TensorsOf(model_, &optimizer_);
  tensors.scalars = {{"step", state.step},
                     {"samples", state.samples},
                     {"tokens", state.tokens},
                     {"updates", optimizer_.num_updates()},
                     {"data_fingerprint", state.data_fingerprint},
                     {"tokenizer_hash", Hex(state.tokenizer_hash)}};
  LACUNA_ASSIGN_OR_RETURN(const SaveReport report, writer_.Save(state.step, tensors));
  for (const std::string& warning : report.warnings) spdlog::warn("{}", warning);
  return Hex(StateHash(tensors));
}

absl::Status Checkpoints::CheckNewestRecipe() const {
  LACUNA_ASSIGN_OR_RETURN(const std::vector<CheckpointInfo> all,
                          ListCheckpoints(CheckpointDirectory(recipe_.run.dir)));
  for (const CheckpointInfo& info : all) {
    if (!info.status.ok()) continue;
    LACUNA_ASSIGN_OR_RETURN(const CheckpointReader reader, CheckpointReader::Open(info.path));
    return CheckSameRun(recipe_, reader.manifest().recipe, info.path, allow_);
  }
  return absl::OkStatus();
}

absl::StatusOr<RunState> Checkpoints::Restore() {
  // Keys that differ say more than the shapes of the tensors that then do not fit.
  LACUNA_RETURN_IF_ERROR(
      AgreeOnStatus(comm_, CheckNewestRecipe(), AfterSeconds(comm_.timeout_seconds())));
  TrainingState tensors = TensorsOf(model_, &optimizer_);
  LoadOptions options;
  options.warn = [](const std::string& line) { spdlog::warn("{}", line); };
  LACUNA_ASSIGN_OR_RETURN(
      const LoadedCheckpoint loaded,
      LoadCheckpoint(comm_, CheckpointDirectory(recipe_.run.dir), tensors, options));
  LACUNA_RETURN_IF_ERROR(CheckSameRun(recipe_, loaded.recipe, loaded.path, allow_));
  model_.parameters->SyncValueFromMaster();
  const nlohmann::json& scalars = tensors.scalars;
  optimizer_.set_num_updates(scalars.at("updates"));
  return RunState{
      .step = scalars.at("step"),
      .samples = scalars.at("samples"),
      .tokens = scalars.at("tokens"),
      .data_fingerprint = scalars.at("data_fingerprint"),
      .tokenizer_hash = std::stoull(scalars.at("tokenizer_hash").get<std::string>(), nullptr, 16),
      .hash = Hex(StateHash(tensors))};
}

absl::Status CheckSameRun(const Recipe& now, const std::string& checkpoint_recipe,
                          const std::string& path, const std::vector<std::string>& allow) {
  const auto mine = KeyValues(ToYaml(now)), theirs = KeyValues(checkpoint_recipe);
  std::string differences;
  int count = 0;
  const auto compare = [&](const std::string& key, const std::string& here,
                           const std::string& there) {
    if (here == there || SaysOnlyHow(key) ||
        std::find(allow.begin(), allow.end(), key) != allow.end())
      return;
    differences += fmt::format("\n  {}: {} in the checkpoint, {} in the recipe", key, there, here);
    ++count;
  };
  for (const auto& [key, value] : mine)
    compare(key, value, theirs.count(key) ? theirs.at(key) : "absent");
  for (const auto& [key, value] : theirs) {
    if (mine.count(key) == 0) compare(key, "absent", value);
  }
  if (count == 0) return absl::OkStatus();
  return CheckpointError("{}: is of another run, {} key{} differ{} (--allow KEY accepts one):{}",
                         path, count, count == 1 ? "" : "s", count == 1 ? "s" : "", differences);
}

}  // namespace lacuna
