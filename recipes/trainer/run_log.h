// What a run leaves for people and tools: metrics.jsonl (one JSON object a line) and TensorBoard
// events, both in the run's folder.
//   {"step": 12, "loss": ..., "gradient_norm": ..., "learning_rate": ..., "target_tokens": ...,
//     "tokens_per_second": ..., "mfu": ...,
//    "data_hash": "<StepResult::data_hash>", "telemetry": {"layers.1.mlp.max_load": ..., ...},
//    "sources": {"<name>": {"samples": ..., "tokens": ..., "loss": ...}}}   (with telemetry;
//     samples and tokens since the run began, loss of the step)
//   {"step": 50, "evaluation": {"tutorial": {"loss": ..., "bits_per_byte": ..., "tokens": ...}}}
//   {"step": 50, "event": "checkpoint", "message": "...", "stall_seconds": ..., "copy_seconds": ...,
//     "seconds": ...}   (other events have the message alone)
// Steps count from 1 (steps done). Numbers have all their digits. After a resume the lines go on
// behind those of the run before, so a step may stand there twice; the last one counts. A full or
// failing disk is reported once and never ends a run.
#pragma once

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nn/metrics.h"
#include "recipes/trainer/evaluation.h"
#include "recipes/trainer/event_file.h"
#include "recipes/trainer/run_state.h"
#include "recipes/trainer/training_step.h"

namespace lacuna {

class RunLog {
 public:
  // Appends to `dir`/metrics.jsonl; makes `dir`/tensorboard.
  static absl::StatusOr<RunLog> Open(const std::string& dir);

  void Step(const RunState& state, const StepResult& result, double learning_rate,
            double tokens_per_second, double mfu, const Metrics* telemetry);
  void Evaluation(int64_t step, const std::vector<EvaluationResult>& results);
  void Event(int64_t step, const std::string& event, const std::string& message,
             const std::vector<std::pair<std::string, double>>& numbers = {});

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  RunLog(std::FILE* lines, EventFile events) : lines_(lines), events_(std::move(events)) {}
  void Write(const nlohmann::ordered_json& line,
             const std::vector<std::pair<std::string, double>>& scalars);

  std::unique_ptr<std::FILE, Close> lines_;
  EventFile events_;
  bool warned_ = false;
};

}  // namespace lacuna
