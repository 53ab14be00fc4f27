// One rank of a recipe's run, alone on one device: its shard of the model, its shapes and kernels,
// real training steps; the other ranks' part of every collective is made up
// (distributed/rehearsal_communicator.h). Compute and memory are measured, the step's time with the
// other ranks is modelled (recipes/rehearsal/timeline.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/memory_ledger.h"
#include "recipes/rehearsal/timeline.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

struct RehearsalOptions {
  int64_t ranks = 8;
  int64_t rank = 0;
  int64_t steps = 12;
  int64_t warmup = 2;         // of these, not counted
  int64_t micro_batches = 2;  // of a rehearsed step; the recipe's number where that is less
  double balance = 1;         // rows of this rank's experts over an even share
  bool random_data = false;   // seeded tokens, one document a sample, instead of the recipe's data
  LinkRates rates;
};

struct RehearsalResult {
  Device device;
  int64_t micro_batches = 0;         // of a rehearsed step
  int64_t recipe_micro_batches = 0;  // of the recipe's, on this rank
  double documents_per_sample = 0;
  std::vector<double> losses;  // of every step; no training result

  // Of the counted step with the median compute time, brought to the recipe's micro-batches.
  ModelledStep step;
  double once = 0;             // seconds of compute that a step has once: optimizer, clipping, sums
  double micro_batch = 0;      // seconds of compute of one micro-batch
  double copies = 0;           // seconds of local copies a rehearsed step, not counted as compute
  double least = 0, most = 0;  // compute of the counted steps
  PhaseVolumes volumes;

  MemoryStats memory;           // of the steps, at their peak
  int64_t memory_at_start = 0;  // the peak of building the rank
  int64_t draws = 0;            // of the memory, what only the rehearsal needs

  // Rows and choices that a micro-batch brings to a layer's experts here; 0 without all-to-all.
  struct Arrived {
    double mean_rows = 0, mean_choices = 0;
    int64_t most_rows = 0, most_choices = 0;
    int64_t fullest_expert = 0;
    double even_share = 0;  // choices that every rank would get
  } arrived;

  double tokens(const Recipe& recipe) const;  // of a step on this rank
};

// Errors: options that the mesh or the recipe does not allow, OpenRunInputs' of the recipe's data, a
// device that is not there, a step that was skipped. Throws OutOfMemoryError.
absl::StatusOr<RehearsalResult> Rehearse(const Recipe& recipe, const RehearsalOptions& options);

}  // namespace lacuna
