#include "recipes/trainer/batch_share.h"

#include <utility>

#include "core/error.h"
#include "core/status.h"

namespace lacuna {

absl::StatusOr<std::vector<Batch>> LoadShare(const DataLoader& loader, const BatchShare& share) {
  const int64_t row = share.ranks * share.micro_batch;
  LACUNA_CHECK(row > 0 && share.global_batch % row == 0,
               "a batch of {} samples for {} ranks with micro-batches of {}", share.global_batch,
               share.ranks, share.micro_batch);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < share.global_batch / row; ++i) {
    std::vector<int64_t> samples;
    for (int64_t j = 0; j < share.micro_batch; ++j)
      samples.push_back(share.first_sample + i * row + share.rank * share.micro_batch + j);
    LACUNA_ASSIGN_OR_RETURN(Batch batch, loader.Load(samples));
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace lacuna
