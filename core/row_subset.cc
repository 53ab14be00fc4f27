#include "core/row_subset.h"

#include <algorithm>
#include <functional>
#include <utility>

namespace lacuna {

RowSubset::RowSubset(const PackedSequences& sequences, std::vector<int32_t> rows, std::string name)
    : rows_(std::move(rows)), name_(std::move(name)) {
  LACUNA_CHECK(
      std::adjacent_find(rows_.begin(), rows_.end(), std::greater_equal<>()) == rows_.end(),
      "rows of a subset rise");
  LACUNA_CHECK(rows_.empty() || (rows_.front() >= 0 && rows_.back() < sequences.num_rows()),
               "rows of a subset of {} rows", sequences.num_rows());
  const std::vector<int32_t>& cu = sequences.host_cu_seqlens();
  std::vector<int32_t> before, positions;
  for (const int32_t begin : cu) {
    before.push_back(
        static_cast<int32_t>(std::lower_bound(rows_.begin(), rows_.end(), begin) - rows_.begin()));
  }
  for (size_t d = 0; d + 1 < cu.size(); ++d) {
    for (int32_t i = before[d]; i < before[d + 1]; ++i)
      positions.push_back(rows_[static_cast<size_t>(i)] - cu[d]);
  }
  const Device device = sequences.device();
  positions_ = Tensor::FromVector(positions, {num_rows()}).To(device);
  cu_seqlens_ = Tensor::FromVector(before, {static_cast<int64_t>(before.size())}).To(device);
}

Tensor RowSubset::Pick(const std::vector<int32_t>& values, int64_t columns) const {
  std::vector<int32_t> picked;
  picked.reserve(rows_.size() * static_cast<size_t>(columns));
  for (const int32_t row : rows_) {
    const auto from = values.begin() + row * columns;
    picked.insert(picked.end(), from, from + columns);
  }
  return Tensor::FromVector(picked, {num_rows(), columns}).To(positions_.device());
}

}  // namespace lacuna
