// Held-out loss of validation sets.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/validation_set.h"
#include "distributed/communicator.h"
#include "nn/language_model.h"

namespace lacuna {

struct EvaluationResult {
  std::string name;
  double loss = 0;           // nats a token
  double bits_per_byte = 0;  // loss of all scored tokens / ln 2 / bytes of their text
  int64_t tokens = 0;
  int64_t bytes = 0;
};

// Collective: scores the first `max_samples` (0: all) of each set, dealt to the ranks in turn; all
// ranks run as many forward passes. The same results, or the same error, on every rank.
absl::StatusOr<std::vector<EvaluationResult>> Evaluate(
    LanguageModel& model, const std::vector<std::unique_ptr<ValidationSet>>& sets,
    Communicator& comm, int64_t max_samples);

}  // namespace lacuna
