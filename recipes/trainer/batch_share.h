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
  int64_t global_batch = 0;  // samples; a multiple of ranks / context * micro_batch
  int64_t micro_batch = 0;   // samples
  int ranks = 1;
  int rank = 0;
  // Consecutive ranks that share each sample (nn/context_share.h); it divides `ranks`.
  int context = 1;
};

// This rank's micro-batches. The global batch is dealt to (micro-batch, group) in order, a group
// being `context` ranks: micro-batch i of group g holds the samples
// first_sample + (i groups + g) micro_batch + 0 .. micro_batch - 1, and its ranks have their rows of
// them. Errors: DataLoader::Load's.
absl::StatusOr<std::vector<Batch>> LoadShare(const DataLoader& loader, const BatchShare& share);

// Leaves of ids and targets the rows of rank `rank` of `size` that share the batch, whose samples have
// `rows_per_sample` rows. The documents stay whole. Tokens by source and the hash of the samples are
// rank 0's, so that sums over ranks count them once.
void KeepContextRows(Batch* batch, int64_t rows_per_sample, int size, int rank);

}  // namespace lacuna
