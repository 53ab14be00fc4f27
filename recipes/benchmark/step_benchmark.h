// Time of a training step (forward, backward, clipping norm, AdamW) of a recipe's model on random
// tokens, one document a step.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct StepTimes {
  std::vector<double> seconds;  // of each timed step
  // Of those, until the host had queued all work of the step; on the CPU that is the step.
  std::vector<double> queued_seconds;
  int64_t tokens = 0;  // of a step
  double median() const;
  double median_queued() const;
  double tokens_per_second() const { return static_cast<double>(tokens) / median(); }
};

// `tokens` tokens a step, in the recipe's dtype, on `device` (on the CPU with the threads set
// before).
StepTimes TimeTrainingSteps(const Recipe& recipe, int64_t tokens, int warmup, int steps,
                            Device device = kCpu);

// The same model in PyTorch (tools/pytorch_twin.py), run by the interpreter `python` with as many
// threads. A ConfigError where that does not work, naming why.
struct PeerTimes {
  StepTimes times;
  std::string version;
  int64_t parameters = 0;
};
absl::StatusOr<PeerTimes> TimePyTorchSteps(const Recipe& recipe, const std::string& python,
                                           const std::string& script, int64_t tokens, int warmup,
                                           int steps, int threads, bool compile);

}  // namespace lacuna
