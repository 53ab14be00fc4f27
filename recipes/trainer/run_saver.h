// The saves of a run: in the background while it trains (train.async_checkpoint), or at once.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "distributed/background_save.h"
#include "nn/optimizer.h"
#include "recipes/model_builder.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/run_state.h"

namespace lacuna {

struct SaveOutcome {
  int64_t step = 0;
  // Of all tensors, 16 hexadecimal digits, the same for the same weights on any number of ranks; or
  // why the checkpoint was not saved.
  absl::StatusOr<std::string> hash = std::string();
  bool in_background = false;
  double stall_seconds =
      0;  // for which this rank did not train, waits for a save before it included
  double copy_seconds = 0;  // of them: the state's copy in host memory
  double seconds = 0;       // from the beginning to the checkpoint's final name
};

// Every member is collective but Ready.
class RunSaver {
 public:
  using OutcomeFn = std::function<void(const SaveOutcome&)>;

  // All references must outlive this. `on_outcome` is called once for each save, on every rank, by
  // the call in which it ends.
  RunSaver(const Recipe& recipe, BuiltModel& model, AdamW& optimizer, Communicator& comm,
           OutcomeFn on_outcome);
  // Warns of a save that is given up.
  ~RunSaver();

  // What killed saves left behind; for the owner of the run before its first save. Not collective.
  absl::Status RemoveStale(const RunLock& lock) { return writer_.RemoveStale(lock); }
  // Before the first step, with `steps` done: host memory for the state's copy, where the recipe asks
  // for it and a save is due before the last one. An error says why there is none; then, too, the run
  // can go on, and saves are made at once.
  absl::Status Prepare(int64_t steps);
  // Saves `state` and the model; of the last one the outcome is there on return, of others maybe
  // later. Waits for a save under way first. An error is the outcome's.
  absl::Status Save(const RunState& state, bool last);
  // Whether Advance has something to do as far as this rank is concerned.
  bool Ready() const { return background_.Ready(); }
  // At the border of a step, where all ranks are Ready.
  void Advance();
  // Waits for the save under way, if there is one.
  void Finish();

 private:
  void End(SaveOutcome outcome, const absl::StatusOr<SaveReport>& report);

  const Recipe& recipe_;
  BuiltModel& model_;
  AdamW& optimizer_;
  Communicator& comm_;
  OutcomeFn on_outcome_;
  CheckpointWriter writer_;
  std::optional<StateSnapshot> snapshot_;
  BackgroundSave background_;
  SaveOutcome under_way_;
};

}  // namespace lacuna
