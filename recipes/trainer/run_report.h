// What a run says on the way: lines and the progress line on stdout for people, metrics.jsonl and
// TensorBoard (run_log.h) for tools. Rank 0 speaks; on the other ranks every call does nothing.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "core/memory_ledger.h"
#include "distributed/communicator.h"
#include "nn/metrics.h"
#include "recipes/schema/recipe.h"
#include "recipes/trainer/evaluation.h"
#include "recipes/trainer/init_from.h"
#include "recipes/trainer/progress.h"
#include "recipes/trainer/run_inputs.h"
#include "recipes/trainer/run_log.h"
#include "recipes/trainer/run_saver.h"
#include "recipes/trainer/run_state.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {

class RunReport {
 public:
  // `recipe` must outlive this.
  RunReport(const Recipe& recipe, const Communicator& comm);

  // Opens the log in run.dir, which must be there. First of all calls but NothingToResume.
  absl::Status OpenLog();
  void NothingToResume();
  void Resumed(const RunState& state);
  void Initialised(const InitReport& init);
  // `edit`: MixtureJournal::Edit's line.
  void MixEdited(const RunState& state, const std::string& edit);
  // What is trained on how many ranks and where, what MFU is measured against (`peak` FLOP/s of all
  // ranks together), and what predicting by token frequency alone would give on each validation
  // set.
  void Started(const RunState& state, const RunInputs& inputs, Device device, double peak);
  // One step, `seconds` long, after which the run stands at `state`; telemetry is null between the
  // steps of train.log_every.
  void Step(const RunState& state, const StepResult& result, double learning_rate, double seconds,
            const Metrics* telemetry);
  // `seconds` after the run was started.
  void FirstStepDone(const RunState& state, double seconds);
  // What this rank's device held at most, told where it is more than what was told before.
  void Memory(const RunState& state, const MemoryStats& stats);
  void Evaluated(const RunState& state, const std::vector<EvaluationResult>& results);
  // RunSaver::Prepare's.
  void BackgroundSaves(const absl::Status& prepared);
  void Saved(const SaveOutcome& outcome);
  void Done(const RunState& state);

 private:
  template <class... T>
  void Say(fmt::format_string<T...> format, T&&... args) {
    SayText(fmt::format(format, std::forward<T>(args)...));
  }
  void SayText(const std::string& text);
  void Warn(const std::string& text);

  const Recipe& recipe_;
  int ranks_;
  bool speaks_;
  std::optional<RunLog> log_;
  Progress progress_;
  double flops_per_token_ = 0;
  double peak_ = 1;
  int64_t memory_told_ = 0;
  double seconds_per_step_ = 0;  // moving average
};

}  // namespace lacuna
