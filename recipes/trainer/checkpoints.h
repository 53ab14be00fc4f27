// What a run's checkpoint holds, and restoring it; recipes/trainer/run_saver.h saves it.
//   model/<parameter>       master copy, f32 (f64 in an f64 model), in the parameter's shape
//   buffer/<buffer>         e.g. a router's correction bias
//   adamw_m/<parameter>, adamw_v/<parameter>
// and the scalars of RunState, the optimizer's number of updates and the resolved recipe.
// Checkpoints are in <run.dir>/checkpoints.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "distributed/checkpoint_reader.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/run_state.h"

namespace lacuna {

// Groups of a checkpoint's tensors that weights alone do without.
inline const std::vector<std::string> kOptimizerGroups = {"adamw_m/", "adamw_v/"};

std::string CheckpointDirectory(const std::string& run_dir);
// Whether a checkpoint, whole or not, lies in the run's folder.
bool HasCheckpoints(const std::string& run_dir);

// Views of what this rank updates of the model's tensors; the optimizer's too where it is not null.
// What is loaded into them is spread by GradientReducer::GatherValues where updates are sharded.
TrainingState TensorsOf(BuiltModel& model, AdamW* optimizer);
// The same with all tensors on the CPU, where checkpoints are written from and read to: the tensors
// themselves, or copies of those on a device.
TrainingState OnHost(const TrainingState& state);
// The values of such copies, and the scalars, back into the state.
void CopyBack(const TrainingState& host, TrainingState& state);

class Checkpoints {
 public:
  // All arguments must outlive this. `allow`: recipe keys that may differ from the checkpoint's.
  Checkpoints(const Recipe& recipe, const std::vector<std::string>& allow, BuiltModel& model,
              AdamW& optimizer, Communicator& comm);

  // Collective. The last saved checkpoint that is whole; those passed over are named in warnings. An
  // error where the ranks do not hold together what was saved (the state's hash).
  absl::StatusOr<RunState> Restore();

 private:
  absl::Status CheckNewestRecipe() const;

  const Recipe& recipe_;
  const std::vector<std::string>& allow_;
  BuiltModel& model_;
  AdamW& optimizer_;
  Communicator& comm_;
};

}  // namespace lacuna
