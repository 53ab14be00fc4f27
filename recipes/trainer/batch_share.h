// Which samples of a global batch each rank trains on.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch.h"
#include "data/loader.h"

namespace lacuna {

struct BatchShare {
  int64_t first_sample = 0;  // of the global batch, in the stream
  int64_t global_batch = 0;  // samples; a multiple of ranks * micro_batch
  int64_t micro_batch = 0;   // samples
  int ranks = 1;
  int rank = 0;
};

// This rank's micro-batches. The global batch is dealt to (micro-batch, rank) in order: micro-batch
// i of rank r holds the samples first_sample + (i ranks + r) micro_batch + 0 .. micro_batch - 1.
// Errors: DataLoader::Load's.
absl::StatusOr<std::vector<Batch>> LoadShare(const DataLoader& loader, const BatchShare& share);

}  // namespace lacuna
