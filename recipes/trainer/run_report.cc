#include "recipes/trainer/run_report.h"

#include <spdlog/spdlog.h>

#include <cstdio>

#include "core/out_of_memory.h"
#include "core/status.h"
#include "recipes/plan/model_size.h"
#include "recipes/plan/yarn.h"
#include "recipes/trainer/device.h"

namespace lacuna {

RunReport::RunReport(const Recipe& recipe, const Communicator& comm)
    : recipe_(recipe), ranks_(comm.size()), speaks_(comm.rank() == 0) {}

void RunReport::SayText(const std::string& text) {
  progress_.Break();
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void RunReport::Warn(const std::string& text) {
  progress_.Break();
  spdlog::warn("{}", text);
}

absl::Status RunReport::OpenLog() {
  if (!speaks_) return absl::OkStatus();
  LACUNA_ASSIGN_OR_RETURN(RunLog log, RunLog::Open(recipe_.run.dir));
  log_.emplace(std::move(log));
  return absl::OkStatus();
}

void RunReport::NothingToResume() {
  if (!speaks_) return;
  Say("--resume: {} holds no checkpoint yet, starting from the first step", recipe_.run.dir);
}

void RunReport::Resumed(const RunState& state) {
  if (!speaks_) return;
  Say("resumed from step {} (state {})", state.step, state.hash);
  log_->Event(state.step, "resume", fmt::format("from step {}, state {}", state.step, state.hash));
}

void RunReport::Initialised(const InitReport& init) {
  if (!speaks_) return;
  const std::string line =
      fmt::format("{} of {} (step {}, {} tokens)",
                  init.load == InitLoad::kWeights ? "weights" : "weights and optimizer", init.path,
                  FormatCount(init.step), FormatCount(init.tokens));
  Say("starts from the {}", line);
  for (const auto& [key, here, there] : init.changed)
    Say("  {}: {} there, {} here", key, there, here);
  log_->Event(0, "init_from", line);
}

void RunReport::MixEdited(const RunState& state, const std::string& edit) {
  if (!speaks_) return;
  SayText(edit);
  log_->Event(state.step, "mix", edit);
}

void RunReport::Started(const RunState& state, const RunInputs& inputs, Device device,
                        double peak) {
  if (!speaks_) return;
  flops_per_token_ = FlopsPerToken(recipe_).total();
  peak_ = peak;
  Say("{}: {} parameters, {} attention, {} tokens a step on {} rank{} ({}, {})", recipe_.run.name,
      FormatCount(CountParameters(recipe_).total()), recipe_.uses_nsa() ? "native sparse" : "full",
      FormatCount(recipe_.train.global_batch * recipe_.train.sequence_length), ranks_,
      ranks_ == 1 ? "" : "s", Describe(device), NameOf(recipe_.train.dtype));
  if (const std::string yarn = YarnSummary(recipe_.model); !yarn.empty()) SayText(yarn);
  for (const BatchPhase& phase : recipe_.train.batch_warmup)
    Say("batch warm-up: {} steps of {} samples", phase.steps, phase.global_batch);
  Say("MFU = tokens/s x {:.2f} MFLOP a token / {:.1f} GFLOP/s (measured matrix products of all "
      "ranks); logs in {}",
      flops_per_token_ / 1e6, peak_ / 1e9, recipe_.run.dir);
  for (const auto& [set, bits] : UnigramBaselines(inputs, recipe_.model.vocab_size)) {
    Say("token-unigram baseline on {}: {:.4f} bits/byte", set, bits);
    log_->Event(state.step, "unigram_baseline", fmt::format("{}: {:.6f} bits/byte", set, bits));
  }
}

void RunReport::Step(const RunState& state, const StepResult& result, double learning_rate,
                     double seconds, const Metrics* telemetry) {
  if (!speaks_) return;
  seconds_per_step_ = seconds_per_step_ == 0 ? seconds : 0.9 * seconds_per_step_ + 0.1 * seconds;
  const double tokens_per_second = static_cast<double>(result.target_tokens) / seconds,
               mfu = tokens_per_second * flops_per_token_ / peak_;
  log_->Step(state, result, learning_rate, tokens_per_second, mfu, telemetry);
  if (!result.skipped.empty()) {
    Warn(
        fmt::format("step {}: skipped, {}; the weights are as before", state.step, result.skipped));
  }
  const int64_t steps_left = recipe_.train.steps - state.step;
  if (telemetry == nullptr && !progress_.live() && steps_left > 0) return;
  progress_.Show({.step = state.step,
                  .total_steps = recipe_.train.steps,
                  .loss = result.loss,
                  .gradient_norm = result.gradient_norm,
                  .learning_rate = learning_rate,
                  .tokens_per_second = tokens_per_second,
                  .model_flops_utilization = mfu,
                  .seconds_left = seconds_per_step_ * static_cast<double>(steps_left)});
}

void RunReport::FirstStepDone(const RunState& state, double seconds) {
  if (!speaks_) return;
  const std::string text = fmt::format("first step done {:.1f} s after the start", seconds);
  SayText(text);
  log_->Event(state.step, "first_step", text);
}

void RunReport::Memory(const RunState& state, const MemoryStats& stats) {
  if (!speaks_ || stats.peak <= memory_told_ + memory_told_ / 20) return;
  memory_told_ = stats.peak;
  const std::string text = PeakSummary(stats);
  Say("memory{}, at its peak: {}", ranks_ == 1 ? "" : " of rank 0", text);
  log_->Event(state.step, "memory_peak", text);
}

void RunReport::Evaluated(const RunState& state, const std::vector<EvaluationResult>& results) {
  if (!speaks_) return;
  for (const EvaluationResult& r : results) {
    Say("step {:>4}  held out {}: loss {:.4f}, {:.4f} bits/byte ({} tokens)", state.step, r.name,
        r.loss, r.bits_per_byte, FormatCount(r.tokens));
  }
  log_->Evaluation(state.step, results);
}

void RunReport::BackgroundSaves(const absl::Status& prepared) {
  if (speaks_ && !prepared.ok())
    Say("checkpoints are saved while training waits: {}", Message(prepared));
}

void RunReport::Saved(const SaveOutcome& outcome) {
  if (!speaks_) return;
  if (!outcome.hash.ok()) {
    Warn(Message(outcome.hash.status()));
    log_->Event(outcome.step, "checkpoint_failed", Message(outcome.hash.status()));
    return;
  }
  std::string text =
      fmt::format("saved step {} (state {}): stall {:.2f} s (copy {:.2f} s)", outcome.step,
                  *outcome.hash, outcome.stall_seconds, outcome.copy_seconds);
  if (outcome.in_background) text += fmt::format(", written in {:.2f} s", outcome.seconds);
  SayText(text);
  log_->Event(outcome.step, "checkpoint", text,
              {{"stall_seconds", outcome.stall_seconds},
               {"copy_seconds", outcome.copy_seconds},
               {"seconds", outcome.seconds}});
}

void RunReport::Done(const RunState& state) {
  if (!speaks_) return;
  Say("{}: done after {} steps, {} tokens", recipe_.run.name, FormatCount(state.step),
      FormatCount(state.tokens));
  log_->Event(state.step, "done", fmt::format("{} tokens", state.tokens));
}

}  // namespace lacuna
