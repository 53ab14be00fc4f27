#include "nn/context_share.h"

#include <fmt/format.h>

#include <numeric>

#include "distributed/communicator.h"

namespace lacuna {

std::vector<int32_t> RowsOfContextRank(int64_t rows, int64_t rows_per_sample, int size, int rank) {
  std::vector<int32_t> own;
  if (size == 1) {
    own.resize(static_cast<size_t>(rows));
    std::iota(own.begin(), own.end(), 0);
    return own;
  }
  LACUNA_CHECK(
      rows_per_sample > 0 && rows % rows_per_sample == 0 && rows_per_sample % (2 * size) == 0,
      "{} rows in samples of {} for {} ranks of a context group", rows, rows_per_sample, size);
  const int64_t piece = rows_per_sample / (2 * size);
  for (int64_t sample = 0; sample < rows; sample += rows_per_sample) {
    for (const int number : {rank, 2 * size - 1 - rank}) {
      for (int64_t row = 0; row < piece; ++row)
        own.push_back(static_cast<int32_t>(sample + number * piece + row));
    }
  }
  return own;
}

ContextShare::ContextShare(const PackedSequences& sequences, int64_t rows_per_sample,
                           Communicator& group)
    : group_(group),
      rows_(sequences,
            RowsOfContextRank(sequences.num_rows(), rows_per_sample, group.size(), group.rank()),
            fmt::format("context.{}.{}", group.size(), group.rank())) {
  std::vector<int32_t> by_rank, places(static_cast<size_t>(sequences.num_rows()));
  for (int rank = 0; rank < group.size(); ++rank) {
    for (const int32_t row :
         RowsOfContextRank(sequences.num_rows(), rows_per_sample, group.size(), rank)) {
      places[static_cast<size_t>(row)] = static_cast<int32_t>(by_rank.size());
      by_rank.push_back(row);
    }
  }
  const auto on_device = [&](const std::vector<int32_t>& order) {
    return Tensor::FromVector(order, {sequences.num_rows()}).To(sequences.device());
  };
  to_rank_order_ = on_device(by_rank);
  to_micro_batch_order_ = on_device(places);
}

void ContextShare::Sum(Tensor& values) const {
  group_.AllReduceSum(values).Wait();
}

}  // namespace lacuna
