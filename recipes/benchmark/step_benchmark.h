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
  int64_t tokens = 0;           // of a step
  double median() const;
  double tokens_per_second() const { return static_cast<double>(tokens) / median(); }
};

// `tokens` tokens a step, in the recipe's dtype, with the threads set before.
StepTimes TimeTrainingSteps(const Recipe& recipe, int64_t tokens, int warmup, int steps);

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
