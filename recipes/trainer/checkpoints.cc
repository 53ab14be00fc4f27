#include "recipes/trainer/checkpoints.h"

#include <spdlog/spdlog.h>

#include <functional>

#include "core/io/block_hash.h"
#include "core/status.h"
#include "recipes/trainer/recipe_diff.h"

namespace lacuna {
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
  // The piece of every parameter that this rank updates, an empty one where it updates nothing of it.
  std::vector<FlatPiece> pieces(parameters.entries().size());
  for (const FlatPiece& piece : parameters.layout().updated) pieces[piece.entry] = piece;
  std::vector<RankGroup> replicas(pieces.size());
  for (const FlatBucket& bucket : parameters.layout().buckets) {
    for (const size_t i : bucket.entries) {
      pieces[i].entry = i;
      replicas[i] = bucket.sharded ? bucket.copies : bucket.group;
    }
  }
  const auto add = [&](const char* group, const std::function<Tensor(const FlatPiece&)>& flat) {
    for (const FlatPiece& piece : pieces) {
      const Parameter& parameter = *parameters.entries()[piece.entry].parameter;
      const Tensor elements = flat(piece);
      const bool whole = piece.count == parameter.numel();
      state.tensors.push_back(
          {.name = std::string(group) + "/" + parameter.name,
           .global_shape = parameter.part ? parameter.part->global_shape : parameter.shape,
           .offset = (parameter.part ? parameter.part->first_element : 0) + piece.first,
           .tensor = whole ? elements.Reshape(parameter.shape) : elements,
           .replica = replicas[piece.entry].rank,
           .replicas = replicas[piece.entry].size});
    }
  };
  add("model", [&](const FlatPiece& piece) { return parameters.MasterOf(piece); });
  model.model->ForEachBuffer(
      [&](const std::string& name, Tensor& buffer) { state.Add("buffer/" + name, buffer); });
  if (optimizer != nullptr) {
    add("adamw_m", [&](const FlatPiece& piece) { return optimizer->FirstMomentOf(piece); });
    add("adamw_v", [&](const FlatPiece& piece) { return optimizer->SecondMomentOf(piece); });
  }
  return state;
}

TrainingState OnHost(const TrainingState& state) {
  TrainingState host = state;
  for (TensorSlice& slice : host.tensors) slice.tensor = slice.tensor.To(kCpu);
  return host;
}

void CopyBack(const TrainingState& host, TrainingState& state) {
  state.scalars = host.scalars;
  for (size_t i = 0; i < state.tensors.size(); ++i) {
    Tensor& tensor = state.tensors[i].tensor;
    if (tensor.device() != kCpu) tensor.CopyFrom(host.tensors[i].tensor);
  }
}

Checkpoints::Checkpoints(const Recipe& recipe, const std::vector<std::string>& allow,
                         BuiltModel& model, AdamW& optimizer, Communicator& comm)
    : recipe_(recipe), allow_(allow), model_(model), optimizer_(optimizer), comm_(comm) {}

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
  TrainingState state_tensors = TensorsOf(model_, &optimizer_), tensors = OnHost(state_tensors);
  LoadOptions options;
  options.warn = [](const std::string& line) { spdlog::warn("{}", line); };
  LACUNA_ASSIGN_OR_RETURN(
      const LoadedCheckpoint loaded,
      LoadCheckpoint(comm_, CheckpointDirectory(recipe_.run.dir), tensors, options));
  LACUNA_RETURN_IF_ERROR(CheckSameRun(recipe_, loaded.recipe, loaded.path, allow_));
  CopyBack(tensors, state_tensors);
  model_.parameters->SyncValueFromMaster();
  LACUNA_ASSIGN_OR_RETURN(RunState state, FromScalars(tensors.scalars, loaded.path));
  optimizer_.set_num_updates(state.updates);
  // The last proof: what the ranks now hold together is what was saved.
  const uint64_t hash = StateHash(comm_, tensors);
  if (loaded.state_hash && *loaded.state_hash != hash) {
    return CheckpointError("{}: was saved with state hash {}, what was loaded has {}", loaded.path,
                           ToHex(*loaded.state_hash), ToHex(hash));
  }
  state.hash = ToHex(hash);
  return state;
}

}  // namespace lacuna
