#include "recipes/trainer/run_saver.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "core/io/block_hash.h"
#include "core/status.h"
#include "recipes/trainer/checkpoints.h"

namespace lacuna {

RunSaver::RunSaver(const Recipe& recipe, BuiltModel& model, AdamW& optimizer, Communicator& comm,
                   OutcomeFn on_outcome)
    : recipe_(recipe),
      model_(model),
      optimizer_(optimizer),
      comm_(comm),
      on_outcome_(std::move(on_outcome)),
      writer_(comm, {.directory = CheckpointDirectory(recipe.run.dir),
                     .keep_latest = static_cast<int>(recipe.train.keep_latest),
                     .recipe = ToYaml(recipe),
                     .layout = {{"expert", recipe.parallel.expert},
                                {"zero", recipe.parallel.zero},
                                {"shard", recipe.parallel.shard}}}),
      background_(writer_) {}

RunSaver::~RunSaver() {
  if (background_.under_way() && comm_.rank() == 0) {
    spdlog::warn("the checkpoint of step {} was still being written and is given up",
                 under_way_.step);
  }
}

absl::Status RunSaver::Prepare(int64_t steps) {
  if (!recipe_.train.SavesInBackground(steps)) return absl::OkStatus();
  const TrainingState share = writer_.ShareOf(TensorsOf(model_, &optimizer_));
  // On the CPU the copy is in the memory that the limit is there to spare.
  if (model_.model->device() == kCpu && recipe_.train.memory_limit_gib > 0) {
    return MakeError(ExitCode::kHardware,
                     "train.memory_limit_gib leaves no room for a copy of the state");
  }
  LACUNA_RETURN_IF_ERROR(CheckSnapshotsFit(comm_, StateSnapshot::BytesFor(share)));
  absl::StatusOr<StateSnapshot> snapshot = StateSnapshot::Reserve(share);
  LACUNA_RETURN_IF_ERROR(
      AgreeOnStatus(comm_, snapshot.status(), AfterSeconds(comm_.timeout_seconds())));
  snapshot_ = *std::move(snapshot);
  return absl::OkStatus();
}

absl::Status RunSaver::Save(const RunState& state, bool last) {
  Finish();  // what training waits for that one is its own stall
  const SteadyClock::time_point begin = SteadyClock::now();
  TrainingState live = TensorsOf(model_, &optimizer_);
  RunState now = state;
  now.updates = optimizer_.num_updates();
  live.scalars = ToScalars(now);
  SaveOutcome outcome{.step = state.step};
  if (snapshot_ && !last) {
    const absl::Status begun =
        background_.Begin(state.step, live, *snapshot_, &outcome.copy_seconds);
    outcome.in_background = true;
    outcome.stall_seconds = SecondsSince(begin);
    if (begun.ok()) {
      under_way_ = std::move(outcome);
    } else {
      End(std::move(outcome), begun);
    }
    return begun;
  }
  // Nothing changes the tensors meanwhile: those on the CPU are written as they stand.
  const bool copies = snapshot_ && model_.model->device() != kCpu;
  const SteadyClock::time_point copy_begin = SteadyClock::now();
  const TrainingState share = writer_.ShareOf(live),
                      host = copies ? snapshot_->Take(share) : OnHost(share);
  outcome.copy_seconds = SecondsSince(copy_begin);
  const absl::StatusOr<SaveReport> report = writer_.Save(state.step, host);
  outcome.stall_seconds = SecondsSince(begin);
  End(std::move(outcome), report);
  return report.status();
}

void RunSaver::Advance() {
  if (!background_.under_way()) return;
  const SteadyClock::time_point begin = SteadyClock::now();
  const std::optional<absl::StatusOr<SaveReport>> report = background_.Advance();
  under_way_.stall_seconds += SecondsSince(begin);
  if (report) End(std::move(under_way_), *report);
}

void RunSaver::Finish() {
  if (!background_.under_way()) return;
  const SteadyClock::time_point begin = SteadyClock::now();
  const absl::StatusOr<SaveReport> report = background_.Finish();
  under_way_.stall_seconds += SecondsSince(begin);
  End(std::move(under_way_), report);
}

void RunSaver::End(SaveOutcome outcome, const absl::StatusOr<SaveReport>& report) {
  if (report.ok()) {
    for (const std::string& warning : report->warnings) spdlog::warn("{}", warning);
    outcome.hash = ToHex(report->state_hash);
    outcome.seconds = report->seconds;
  } else {
    outcome.hash = report.status();
  }
  on_outcome_(outcome);
}

}  // namespace lacuna
