#include "recipes/trainer/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "core/allocator.h"
#include "core/io/file.h"
#include "core/out_of_memory.h"
#include "core/profile_range.h"
#include "core/status.h"
#include "distributed/device_communicator.h"
#include "distributed/run_lock.h"
#include "nn/schedule.h"
#include "recipes/trainer/batch_share.h"
#include "recipes/trainer/checkpoints.h"
#include "recipes/trainer/evaluation.h"
#include "recipes/trainer/init_from.h"
#include "recipes/trainer/matmul_peak.h"
#include "recipes/trainer/memory_advice.h"
#include "recipes/trainer/run_inputs.h"
#include "recipes/trainer/run_report.h"
#include "recipes/trainer/run_saver.h"
#include "recipes/trainer/sharding.h"
#include "recipes/trainer/signals.h"
#include "recipes/trainer/start_checks.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {
namespace {

using Seconds = std::chrono::duration<double>;

// One run on this rank.
class Run {
 public:
  Run(const Recipe& recipe, const TrainOptions& options, Communicator& comm, Device device)
      : recipe_(recipe), options_(options), comm_(comm), device_(device), report_(recipe, comm) {}

  absl::Status Execute() {
    LACUNA_RETURN_IF_ERROR(Agree(OpenInputs()));
    LACUNA_RETURN_IF_ERROR(Agree(OpenRunDirectory()));
    LACUNA_ASSIGN_OR_RETURN(mesh_, MeshOf(recipe_, comm_));
    Build();
    LACUNA_RETURN_IF_ERROR(Restore());
    reducer_->GatherValues();  // each rank has read what it updates; the first step waits
    LACUNA_RETURN_IF_ERROR(Agree(WriteRecipe()));
    report_.Started(state_, inputs_, device_,
                    MeasurePeakOfAllRanks(recipe_.train.dtype, device_, comm_));
    report_.BackgroundSaves(saver_->Prepare(state_.step));
    ResetMemoryPeak(device_);  // what the measurement took says nothing of the training
    const absl::Status trained = Loop();
    saver_->Finish();  // all ranks are here, with the same status
    LACUNA_RETURN_IF_ERROR(trained);
    report_.Memory(state_, MemoryStatsOf(device_));
    report_.Done(state_);
    return absl::OkStatus();
  }

  // On one rank nobody else has to agree to a save that is under way.
  void FinishSave() {
    if (comm_.size() == 1 && saver_ != nullptr) saver_->Finish();
  }

  // What to do about it, and where the run stands. A step that ran out of memory is not saved.
  std::string AdviceFor(const OutOfMemory& request) const {
    // The recipe says nothing of the host's memory where the run computes on a card.
    return (request.device == device_ ? MemoryAdvice(recipe_, comm_.size(), request) : "") +
           fmt::format("steps done: {}; newest checkpoint: {}\n", state_.step, last_saved_);
  }

 private:
  bool leader() const { return comm_.rank() == 0; }
  absl::Status Agree(const absl::Status& status) {
    return AgreeOnStatus(comm_, status, AfterSeconds(comm_.timeout_seconds()));
  }

  absl::Status OpenInputs() {
    LACUNA_ASSIGN_OR_RETURN(inputs_, OpenRunInputs(recipe_, leader()));
    return absl::OkStatus();
  }

  absl::Status OpenRunDirectory() {
    if (!leader()) return absl::OkStatus();
    LACUNA_ASSIGN_OR_RETURN(lock_, RunLock::Acquire(recipe_.run.dir));
    if (!options_.resume && HasCheckpoints(recipe_.run.dir)) {
      return ConfigError(
          "run.dir = {}: holds the checkpoints of a run; --resume continues it, another run.dir "
          "starts afresh",
          recipe_.run.dir);
    }
    return report_.OpenLog();
  }

  // Only once it is known to be the run's: a refused resume changes nothing.
  absl::Status WriteRecipe() const {
    if (!leader()) return absl::OkStatus();
    return WriteFileDurably(recipe_.run.dir + "/recipe.yaml", ToYaml(recipe_), ExitCode::kConfig);
  }

  void Build() {
    model_ = BuildModel(recipe_.model, recipe_.nsa, recipe_.moe, recipe_.train.recompute,
                        recipe_.train.dtype, static_cast<uint64_t>(recipe_.run.seed),
                        /*gradients=*/true, device_, ShardingOf(recipe_, mesh_),
                        mesh_.expert_group(), recipe_.expert_chunks());
    optimizer_ = std::make_unique<AdamW>(*model_.parameters, recipe_.optimizer);
    reducer_ = std::make_unique<GradientReducer>(*model_.parameters, mesh_.share_group(),
                                                 mesh_.replica.get(), mesh_.copy_group());
    training_step_ = std::make_unique<TrainingStep>(
        model_, *optimizer_, *reducer_, comm_, recipe_.optimizer.clip_norm,
        recipe_.train.sequence_length, mesh_.context_group());
    training_step_->set_deterministic(recipe_.train.deterministic);
    checkpoints_ =
        std::make_unique<Checkpoints>(recipe_, options_.allow, model_, *optimizer_, comm_);
    saver_ = std::make_unique<RunSaver>(recipe_, model_, *optimizer_, comm_,
                                        [this](const SaveOutcome& outcome) { Saved(outcome); });
  }

  absl::Status Restore() {
    LACUNA_RETURN_IF_ERROR(Agree(leader() ? saver_->RemoveStale(*lock_) : absl::OkStatus()));
    if (!options_.resume) return Begin();
    const std::string found = leader() && HasCheckpoints(recipe_.run.dir) ? "yes" : "no";
    if (BroadcastNow(comm_, found, 0, AfterSeconds(comm_.timeout_seconds())) == "no") {
      // The same command line may so start a run and bring it back after every preemption.
      report_.NothingToResume();
      return Begin();
    }
    LACUNA_ASSIGN_OR_RETURN(state_, checkpoints_->Restore());
    last_saved_ = fmt::format("step {}", state_.step);
    report_.Resumed(state_);
    LACUNA_ASSIGN_OR_RETURN(const std::string edit,
                            ContinueData(state_, recipe_.run.dir, &inputs_));
    if (!edit.empty()) report_.MixEdited(state_, edit);
    return absl::OkStatus();
  }

  // The first step of all: from the seed, or from the model of another run.
  absl::Status Begin() {
    if (!recipe_.init_from.given()) return absl::OkStatus();
    LACUNA_ASSIGN_OR_RETURN(const InitReport init, InitialiseFrom(recipe_, inputs_.tokenizer_hash,
                                                                  model_, *optimizer_, comm_));
    report_.Initialised(init);
    return absl::OkStatus();
  }

  absl::Status Loop() {
    int64_t skipped_in_a_row = 0;
    while (state_.step < recipe_.train.steps) {
      LACUNA_ASSIGN_OR_RETURN(const std::string skipped, Step());
      report_.Memory(state_, MemoryStatsOf(device_));
      skipped_in_a_row = skipped.empty() ? 0 : skipped_in_a_row + 1;
      if (skipped_in_a_row > 0 && skipped_in_a_row >= recipe_.train.max_nonfinite_steps) {
        return MakeError(ExitCode::kNumerics,
                         fmt::format("step {}: {} steps in a row were skipped, the last because "
                                     "{}; the checkpoints are kept",
                                     state_.step, skipped_in_a_row, skipped));
      }
      LACUNA_RETURN_IF_ERROR(AfterStep());
    }
    return absl::OkStatus();
  }

  // This rank's micro-batches of the next step.
  absl::StatusOr<std::vector<Batch>> LoadBatches(int64_t global_batch) {
    const ProfileRange range("data");
    absl::StatusOr<std::vector<Batch>> batches =
        LoadShare(*inputs_.loader, {.first_sample = state_.samples,
                                    .global_batch = global_batch,
                                    .micro_batch = recipe_.train.micro_batch,
                                    .ranks = comm_.size(),
                                    .rank = comm_.rank(),
                                    .context = static_cast<int>(recipe_.parallel.context)});
    LACUNA_RETURN_IF_ERROR(Agree(batches.status()));
    return batches;
  }

  absl::StatusOr<std::string> Step() {  // -> StepResult::skipped
    const ProfileRange range("step");
    comm_.log().SetContext(fmt::format("step {}", state_.step + 1));
    const SteadyClock::time_point begin = SteadyClock::now();
    const int64_t global_batch = recipe_.train.GlobalBatchAt(state_.step);
    LACUNA_ASSIGN_OR_RETURN(const std::vector<Batch> batches, LoadBatches(global_batch));
    const double learning_rate = LearningRate(recipe_.optimizer, state_.step, recipe_.train.steps);
    const bool with_telemetry = (state_.step + 1) % recipe_.train.log_every == 0;
    Metrics telemetry;
    StepResult result =
        training_step_->Run(batches, learning_rate, with_telemetry ? &telemetry : nullptr);
    const SteadyClock::time_point end = SteadyClock::now();
    if (step_before_ended_)
      result.idle_seconds = Seconds(result.first_work - *step_before_ended_).count();
    step_before_ended_ = end;
    ++state_.step;
    state_.samples += global_batch;
    state_.tokens += result.target_tokens;
    CountSources(&result);
    report_.Step(state_, result, learning_rate, Seconds(end - begin).count(),
                 with_telemetry ? &telemetry : nullptr);
    if (!first_step_told_) {
      first_step_told_ = true;
      report_.FirstStepDone(state_, Seconds(end - started_).count());
    }
    return result.skipped;
  }

  void CountSources(StepResult* result) {
    const auto progress = inputs_.loader->Progress(state_.samples);
    for (size_t s = 0; s < progress.size(); ++s) {
      result->sources[s].name = progress[s].name;
      SourceState& source = state_.sources[progress[s].name];
      source.samples = progress[s].samples;
      source.tokens += result->sources[s].tokens;
    }
  }

  // Evaluation, checkpoint and stop signals, each at its step.
  absl::Status AfterStep() {
    const auto due = [&](int64_t every) {
      return state_.step == recipe_.train.steps || (every > 0 && state_.step % every == 0);
    };
    const auto [signal, all_ready] = MeetAtBorder(comm_, saver_->Ready());
    if (all_ready) saver_->Advance();
    if (due(recipe_.train.eval_every) && signal == 0) LACUNA_RETURN_IF_ERROR(EvaluateNow());
    const bool last = state_.step == recipe_.train.steps || signal != 0;
    if (due(recipe_.train.checkpoint_every) || last) {
      const absl::Status saved = Save(last);
      // Training goes on after a save that failed, for the next one; there is none behind the last.
      if (last && !saved.ok()) return saved;
    }
    if (signal == 0) return absl::OkStatus();
    return MakeError(
        static_cast<ExitCode>(128 + signal),
        fmt::format(
            "stopped by signal {} after step {}; {} is the latest checkpoint, --resume goes on",
            signal, state_.step, last_saved_));
  }

  absl::Status EvaluateNow() {
    step_before_ended_.reset();
    comm_.log().SetContext(fmt::format("evaluation after step {}", state_.step));
    LACUNA_ASSIGN_OR_RETURN(const auto results, Evaluate(*model_.model, inputs_.validation, comm_,
                                                         recipe_.train.eval_samples));
    report_.Evaluated(state_, results);
    return absl::OkStatus();
  }

  // A failure is reported; the checkpoints before it are intact.
  absl::Status Save(bool last) {
    const ProfileRange range("checkpoint");
    comm_.log().SetContext(fmt::format("checkpoint of step {}", state_.step));
    step_before_ended_.reset();
    NoteData(inputs_, &state_);
    return saver_->Save(state_, last);
  }

  void Saved(const SaveOutcome& outcome) {
    if (outcome.hash.ok()) last_saved_ = fmt::format("step {}", outcome.step);
    report_.Saved(outcome);
  }

  const Recipe& recipe_;
  const TrainOptions& options_;
  Communicator& comm_;
  Device device_;
  RunInputs inputs_;
  std::optional<RunLock> lock_;  // rank 0
  RunReport report_;             // writes into the run's folder, so it ends before the lock
  Mesh mesh_;
  BuiltModel model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<TrainingStep> training_step_;
  std::unique_ptr<Checkpoints> checkpoints_;
  RunState state_;
  std::string last_saved_ = "none";
  std::unique_ptr<RunSaver> saver_;
  const SteadyClock::time_point started_ = SteadyClock::now();
  std::optional<SteadyClock::time_point> step_before_ended_;
  bool first_step_told_ = false;
};

}  // namespace

absl::Status Train(const Recipe& recipe, const TrainOptions& options,
                   std::shared_ptr<Communicator> host) {
  InstallStopSignals();
  LACUNA_ASSIGN_OR_RETURN(const Device device, PrepareDevice(recipe, *host));
  const std::shared_ptr<Communicator> comm = ForDevice(std::move(host), device);
  Run run(recipe, options, *comm, device);
  try {
    return run.Execute();
  } catch (const OutOfMemoryError& error) {
    run.FinishSave();
    throw OutOfMemoryError(error.request(), run.AdviceFor(error.request()));
  }
}

}  // namespace lacuna
