// A run: a recipe executed from its first step, or from its latest checkpoint, to its last.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "distributed/communicator.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct TrainOptions {
  // continue from the latest good checkpoint in run.dir, if there is any
  bool resume = false;
  std::vector<std::string> allow;  // recipe keys that may differ from the checkpoint's
};

// Trains until train.steps steps are done, or a signal asks to stop: then a checkpoint is saved and
// the status carries the exit code 128 + signal. Errors of the outside world carry theirs
// (core/status.h). All ranks call it together and get the same outcome. `host` is a communicator of
// tensors on the CPU; one for the run's device is put before it.
// Progress goes to stdout on rank 0; the run's folder gets recipe.yaml (resolved), metrics.jsonl,
// tensorboard/ and checkpoints/.
absl::Status Train(const Recipe& recipe, const TrainOptions& options,
                   std::shared_ptr<Communicator> host);

}  // namespace lacuna
