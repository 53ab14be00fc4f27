#include "recipes/trainer/trainer.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "core/io/file.h"
#include "core/status.h"
#include "distributed/run_lock.h"
#include "nn/schedule.h"
#include "recipes/plan/model_size.h"
#include "recipes/trainer/checkpoints.h"
#include "recipes/trainer/evaluation.h"
#include "recipes/trainer/matmul_peak.h"
#include "recipes/trainer/progress.h"
#include "recipes/trainer/run_inputs.h"
#include "recipes/trainer/run_log.h"
#include "recipes/trainer/signals.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

// One run on this rank.
class Run {
 public:
  Run(const Recipe& recipe, const TrainOptions& options, Communicator& comm)
      : recipe_(recipe), options_(options), comm_(comm) {}

  absl::Status Execute() {
    LACUNA_RETURN_IF_ERROR(Agree(OpenInputs()));
    LACUNA_RETURN_IF_ERROR(Agree(OpenRunDirectory()));
    Build();
    LACUNA_RETURN_IF_ERROR(Restore());
    LACUNA_RETURN_IF_ERROR(Agree(leader() ? WriteRecipe() : absl::OkStatus()));
    Announce();
    return Loop();
  }

 private:
  bool leader() const { return comm_.rank() == 0; }
  absl::Status Agree(const absl::Status& status) {
    return AgreeOnStatus(comm_, status, AfterSeconds(comm_.timeout_seconds()));
  }
  template <class... T>
  void Say(fmt::format_string<T...> format, T&&... args) {
    if (!leader()) return;
    progress_.Break();
    fmt::print(format, std::forward<T>(args)...);
    std::fflush(stdout);
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
    LACUNA_ASSIGN_OR_RETURN(RunLog log, RunLog::Open(recipe_.run.dir));
    log_.emplace(std::move(log));
    return absl::OkStatus();
  }

  // Only once it is known to be the run's: a refused resume changes nothing.
  absl::Status WriteRecipe() const {
    return WriteFileDurably(recipe_.run.dir + "/recipe.yaml", ToYaml(recipe_), ExitCode::kConfig);
  }

  void Build() {
    model_ = BuildModel(recipe_.model, recipe_.nsa, recipe_.moe, recipe_.train.recompute,
                        recipe_.train.dtype, static_cast<uint64_t>(recipe_.run.seed));
    optimizer_ = std::make_unique<AdamW>(*model_.parameters, recipe_.optimizer);
    reducer_ =
        std::make_unique<GradientReducer>(*model_.parameters, comm_, recipe_.train.bucket_mb << 20);
    training_step_ =
        std::make_unique<TrainingStep>(model_, *optimizer_, *reducer_, comm_,
                                       recipe_.optimizer.clip_norm, recipe_.train.sequence_length);
    checkpoints_ =
        std::make_unique<Checkpoints>(recipe_, options_.allow, model_, *optimizer_, comm_);
  }

  absl::Status Restore() {
    LACUNA_RETURN_IF_ERROR(Agree(leader() ? checkpoints_->RemoveStale(*lock_) : absl::OkStatus()));
    if (!options_.resume) return absl::OkStatus();
    const std::string found = leader() && HasCheckpoints(recipe_.run.dir) ? "yes" : "no";
    if (BroadcastNow(comm_, found, 0, AfterSeconds(comm_.timeout_seconds())) == "no") {
      // The same command line may so start a run and bring it back after every preemption.
      Say("--resume: {} holds no checkpoint yet, starting from the first step\n", recipe_.run.dir);
      return absl::OkStatus();
    }
    LACUNA_ASSIGN_OR_RETURN(state_, checkpoints_->Restore());
    if (state_.data_fingerprint != inputs_.loader->fingerprint()) {
      return DataError(
          "data: the shards have fingerprint {}, the checkpoint of step {} was trained on {}; a "
          "run resumes only on its own data",
          inputs_.loader->fingerprint(), state_.step, state_.data_fingerprint);
    }
    if (leader())
      log_->Event(state_.step, "resume",
                  fmt::format("from step {}, state {}", state_.step, state_.hash));
    Say("resumed from step {} (state {})\n", state_.step, state_.hash);
    return absl::OkStatus();
  }

  void Announce() {
    flops_per_token_ = FlopsPerToken(recipe_).total();
    comm_.Barrier().Wait();  // all ranks measure at once, as they will compute
    std::vector<double> peak{MeasureMatMulPeak(recipe_.train.dtype)};
    SumOverRanks(comm_, &peak);
    peak_ = peak[0];
    const ParameterCounts counts = CountParameters(recipe_);
    Say("{}: {} parameters, {} attention, {} tokens a step on {} rank{}\n", recipe_.run.name,
        FormatCount(counts.total()), recipe_.uses_nsa() ? "native sparse" : "full",
        FormatCount(recipe_.train.global_batch * recipe_.train.sequence_length), comm_.size(),
        comm_.size() == 1 ? "" : "s");
    Say("MFU = tokens/s x {:.2f} MFLOP a token / {:.1f} GFLOP/s (measured matrix products of all "
        "ranks); logs in {}\n",
        flops_per_token_ / 1e6, peak_ / 1e9, recipe_.run.dir);
    if (!leader()) return;
    for (const auto& [set, bits] : UnigramBaselines(inputs_, recipe_.model.vocab_size)) {
      Say("token-unigram baseline on {}: {:.4f} bits/byte\n", set, bits);
      log_->Event(state_.step, "unigram_baseline", fmt::format("{}: {:.6f} bits/byte", set, bits));
    }
  }

  // Sample numbers of this rank's micro-batches of the next step: the global batch is dealt to
  // (micro-batch, rank) in order.
  absl::StatusOr<std::vector<Batch>> NextBatches() {
    const int64_t per_rank = recipe_.train.global_batch / comm_.size(),
                  micro = recipe_.train.micro_batch;
    std::vector<Batch> batches;
    for (int64_t i = 0; i < per_rank / micro; ++i) {
      std::vector<int64_t> samples;
      for (int64_t j = 0; j < micro; ++j)
        samples.push_back(state_.samples + (i * comm_.size() + comm_.rank()) * micro + j);
      LACUNA_ASSIGN_OR_RETURN(Batch batch, inputs_.loader->Load(samples));
      batches.push_back(std::move(batch));
    }
    return batches;
  }

  absl::Status Loop() {
    double seconds_per_step = 0;
    int64_t skipped_in_a_row = 0;
    while (state_.step < recipe_.train.steps) {
      const auto begin = Clock::now();
      absl::StatusOr<std::vector<Batch>> batches = NextBatches();
      LACUNA_RETURN_IF_ERROR(Agree(batches.status()));
      const double learning_rate =
          LearningRate(recipe_.optimizer, state_.step, recipe_.train.steps);
      const bool with_telemetry = (state_.step + 1) % recipe_.train.log_every == 0;
      Metrics telemetry;
      const StepResult result =
          training_step_->Run(*batches, learning_rate, with_telemetry ? &telemetry : nullptr);
      ++state_.step;
      state_.samples += recipe_.train.global_batch;
      state_.tokens += result.target_tokens;

      const double seconds = SecondsSince(begin);
      seconds_per_step = seconds_per_step == 0 ? seconds : 0.9 * seconds_per_step + 0.1 * seconds;
      Report(result, learning_rate, seconds, seconds_per_step,
             with_telemetry ? &telemetry : nullptr);
      skipped_in_a_row = result.skipped.empty() ? 0 : skipped_in_a_row + 1;
      if (skipped_in_a_row > 0 && skipped_in_a_row >= recipe_.train.max_nonfinite_steps) {
        return MakeError(ExitCode::kNumerics,
                         fmt::format("step {}: {} steps in a row were skipped, the last because "
                                     "{}; the checkpoints are kept",
                                     state_.step, skipped_in_a_row, result.skipped));
      }
      LACUNA_RETURN_IF_ERROR(AfterStep());
    }
    Say("{}: done after {} steps, {} tokens\n", recipe_.run.name, FormatCount(state_.step),
        FormatCount(state_.tokens));
    if (leader()) log_->Event(state_.step, "done", fmt::format("{} tokens", state_.tokens));
    return absl::OkStatus();
  }

  // Evaluation, checkpoint and stop signals, each at its step.
  absl::Status AfterStep() {
    const auto due = [&](int64_t every) {
      return state_.step == recipe_.train.steps || (every > 0 && state_.step % every == 0);
    };
    const int signal = AgreedSignal();
    if (due(recipe_.train.eval_every) && signal == 0) LACUNA_RETURN_IF_ERROR(EvaluateNow());
    const bool last = state_.step == recipe_.train.steps || signal != 0;
    if (due(recipe_.train.checkpoint_every) || last) {
      const absl::Status saved = Save();
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

  // The signal that any rank has received; all ranks see the same.
  int AgreedSignal() {
    std::vector<double> seen(32, 0.0);
    seen[static_cast<size_t>(StopSignal())] = 1;
    SumOverRanks(comm_, &seen);
    for (size_t s = 1; s < seen.size(); ++s) {
      if (seen[s] > 0) return static_cast<int>(s);
    }
    return 0;
  }

  absl::Status EvaluateNow() {
    LACUNA_ASSIGN_OR_RETURN(const auto results, Evaluate(*model_.model, inputs_.validation, comm_,
                                                         recipe_.train.eval_samples));
    for (const EvaluationResult& r : results) {
      Say("step {:>4}  held out {}: loss {:.4f}, {:.4f} bits/byte ({} tokens)\n", state_.step,
          r.name, r.loss, r.bits_per_byte, FormatCount(r.tokens));
    }
    if (leader()) log_->Evaluation(state_.step, results);
    return absl::OkStatus();
  }

  // A failure is reported; the checkpoints before it are intact.
  absl::Status Save() {
    state_.data_fingerprint = inputs_.loader->fingerprint();
    state_.tokenizer_hash = inputs_.tokenizer_hash;
    const absl::StatusOr<std::string> hash = checkpoints_->Save(state_);
    if (hash.ok()) last_saved_ = fmt::format("step {}", state_.step);
    const std::string message = hash.ok()
                                    ? fmt::format("saved step {} (state {})", state_.step, *hash)
                                    : Message(hash.status());
    if (!leader()) return hash.status();
    progress_.Break();
    if (hash.ok()) {
      Say("{}\n", message);
    } else {
      spdlog::warn("{}", message);
    }
    log_->Event(state_.step, hash.ok() ? "checkpoint" : "checkpoint_failed", message);
    return hash.status();
  }

  void Report(const StepResult& result, double learning_rate, double seconds,
              double seconds_per_step, const Metrics* telemetry) {
    if (!leader()) return;
    const double tokens_per_second = static_cast<double>(result.target_tokens) / seconds,
                 mfu = tokens_per_second * flops_per_token_ / peak_;
    log_->Step(state_.step, result, learning_rate, tokens_per_second, mfu, telemetry);
    if (!result.skipped.empty()) {
      progress_.Break();
      spdlog::warn("step {}: skipped, {}; the weights are as before", state_.step, result.skipped);
    }
    if (telemetry == nullptr && !progress_.live() && state_.step != recipe_.train.steps) return;
    progress_.Show({.step = state_.step,
                    .total_steps = recipe_.train.steps,
                    .loss = result.loss,
                    .gradient_norm = result.gradient_norm,
                    .learning_rate = learning_rate,
                    .tokens_per_second = tokens_per_second,
                    .model_flops_utilization = mfu,
                    .seconds_left =
                        seconds_per_step * static_cast<double>(recipe_.train.steps - state_.step)});
  }

  const Recipe& recipe_;
  const TrainOptions& options_;
  Communicator& comm_;
  RunInputs inputs_;
  std::optional<RunLock> lock_;
  std::optional<RunLog> log_;  // rank 0
  BuiltModel model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<GradientReducer> reducer_;
  std::unique_ptr<TrainingStep> training_step_;
  std::unique_ptr<Checkpoints> checkpoints_;
  RunState state_;
  std::string last_saved_ = "none";
  Progress progress_;
  double flops_per_token_ = 0;
  double peak_ = 1;
};

}  // namespace

absl::Status Train(const Recipe& recipe, const TrainOptions& options, Communicator& comm) {
  InstallStopSignals();
  return Run(recipe, options, comm).Execute();
}

}  // namespace lacuna
