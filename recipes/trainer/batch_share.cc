#include "recipes/trainer/batch_share.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/status.h"
#include "nn/context_share.h"

namespace lacuna {

absl::StatusOr<std::vector<Batch>> LoadShare(const DataLoader& loader, const BatchShare& share) {
  LACUNA_CHECK(share.context > 0 && share.ranks % share.context == 0,
               "{} ranks in groups of {} that share samples", share.ranks, share.context);
  const int64_t groups = share.ranks / share.context, group = share.rank / share.context,
                row = groups * share.micro_batch;
  LACUNA_CHECK(row > 0 && share.global_batch % row == 0,
               "a batch of {} samples for {} groups of ranks with micro-batches of {}",
               share.global_batch, groups, share.micro_batch);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < share.global_batch / row; ++i) {
    std::vector<int64_t> samples;
    for (int64_t j = 0; j < share.micro_batch; ++j)
      samples.push_back(share.first_sample + i * row + group * share.micro_batch + j);
    LACUNA_ASSIGN_OR_RETURN(Batch batch, loader.Load(samples));
    KeepContextRows(&batch, batch.ids.numel() / share.micro_batch, share.context,
                    share.rank % share.context);
    batches.push_back(std::move(batch));
  }
  return batches;
}

void KeepContextRows(Batch* batch, int64_t rows_per_sample, int size, int rank) {
  if (size == 1) return;
  const std::vector<int32_t> rows =
      RowsOfContextRank(batch->ids.numel(), rows_per_sample, size, rank);
  const auto own = [&](const Tensor& x) {
    const int32_t* from = x.data<int32_t>();
    std::vector<int32_t> values;
    for (const int32_t row : rows) values.push_back(from[row]);
    return Tensor::FromVector(values, {static_cast<int64_t>(rows.size())});
  };
  batch->ids = own(batch->ids);
  batch->targets = own(batch->targets);
  const int32_t* targets = batch->targets.data<int32_t>();
  batch->num_target_tokens =
      std::count_if(targets, targets + rows.size(), [](int32_t target) { return target >= 0; });
  if (rank == 0) return;
  std::fill(batch->tokens_per_source.begin(), batch->tokens_per_source.end(), 0);
  batch->content_hash = 0;
}

}  // namespace lacuna
