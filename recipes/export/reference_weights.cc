#include "recipes/export/reference_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "core/status.h"
#include "data/strict_json.h"

namespace lacuna {

void ReferenceMatrix::Row(int64_t row, double* out) const {
  for (int64_t i = 0; i < columns; ++i) {
    const int64_t at = row * columns + i;
    uint32_t bits = 0;
    if (bf16) {
      uint16_t half = 0;
      std::memcpy(&half, data + 2 * at, 2);
      bits = static_cast<uint32_t>(half) << 16;
    } else {
      std::memcpy(&bits, data + 4 * at, 4);
    }
    float value = 0;
    std::memcpy(&value, &bits, 4);
    out[i] = value;
  }
}

Doubles ReferenceMatrix::All() const {
  Doubles all(static_cast<size_t>(rows * columns));
  for (int64_t row = 0; row < rows; ++row) Row(row, all.data() + row * columns);
  return all;
}

absl::StatusOr<std::unique_ptr<ReferenceWeights>> ReferenceWeights::Open(
    const std::string& folder) {
  LACUNA_ASSIGN_OR_RETURN(SafetensorsFolder opened, SafetensorsFolder::Open(folder));
  return std::unique_ptr<ReferenceWeights>(new ReferenceWeights(std::move(opened)));
}

ReferenceMatrix ReferenceWeights::Take(const std::string& name, const std::vector<int64_t>& shape) {
  if (!failure_.ok()) return {};
  const auto found = folder_.tensors().find(name);
  if (found == folder_.tensors().end()) {
    failure_ = DataError("{}: has no tensor {}", folder_.files()[0].path(), Shown(name));
    return {};
  }
  const SafetensorsEntry& entry = *found->second.entry;
  if (entry.shape != shape || (entry.type != "BF16" && entry.type != "F32")) {
    failure_ = DataError("{}: tensor {}: is {} [{}], expected BF16 or F32 [{}]",
                         found->second.file->path(), Shown(name), entry.type,
                         fmt::join(entry.shape, ", "), fmt::join(shape, ", "));
    return {};
  }
  taken_.insert(name);
  return {.data = found->second.data(),
          .bf16 = entry.type == "BF16",
          .rows = shape[0],
          .columns = shape.size() > 1 ? shape[1] : 1};
}

absl::Status ReferenceWeights::CheckAllTaken() const {
  LACUNA_RETURN_IF_ERROR(failure_);
  for (const auto& [name, item] : folder_.tensors()) {
    if (!taken_.contains(name))
      return DataError("{}: tensor {}: is no part of the model that config.json describes",
                       item.file->path(), Shown(name));
  }
  return absl::OkStatus();
}

namespace {

constexpr int64_t kLanes = 8;  // partial sums, which fill vector registers
constexpr int64_t kRows = 4;   // rows of a matrix that one pass over a token serves

// sums[r] = x . rows[r * n, ...): plain dot products, side by side.
template <int64_t kCount>
void Dots(const double* x, const double* rows, int64_t n, double* sums) {
  double lanes[kCount][kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t r = 0; r < kCount; ++r) {
      for (int64_t lane = 0; lane < kLanes; ++lane)
        lanes[r][lane] += x[i + lane] * rows[r * n + i + lane];
    }
  }
  for (int64_t r = 0; r < kCount; ++r) {
    sums[r] = 0;
    for (int64_t rest = i; rest < n; ++rest) sums[r] += x[rest] * rows[r * n + rest];
    for (const double lane : lanes[r]) sums[r] += lane;
  }
}

}  // namespace

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  Dots<1>(a, b, n, &sum);
  return sum;
}

Doubles Multiply(const Doubles& x, const ReferenceMatrix& w) {
  const int64_t n = w.columns, tokens = static_cast<int64_t>(x.size()) / n;
  Doubles y(static_cast<size_t>(tokens * w.rows));
  ParallelForChunks(w.rows, kRows, 2 * n * tokens, [&](int64_t begin, int64_t end) {
    Doubles rows(static_cast<size_t>(kRows * n));  // zeros behind the last row
    for (int64_t r = begin; r < end; ++r) w.Row(r, rows.data() + (r - begin) * n);
    for (int64_t t = 0; t < tokens; ++t) {
      double sums[kRows];
      Dots<kRows>(x.data() + t * n, rows.data(), n, sums);
      std::copy(sums, sums + (end - begin), y.data() + t * w.rows + begin);
    }
  });
  return y;
}

Doubles RmsNormRows(const Doubles& x, const Doubles& weight, double eps) {
  const auto n = static_cast<int64_t>(weight.size());
  Doubles y(x.size());
  for (int64_t row = 0; row < static_cast<int64_t>(x.size()) / n; ++row) {
    const double* in = x.data() + row * n;
    const double factor = 1.0 / std::sqrt(Dot(in, in, n) / static_cast<double>(n) + eps);
    for (int64_t i = 0; i < n; ++i)
      y[static_cast<size_t>(row * n + i)] = in[i] * factor * weight[static_cast<size_t>(i)];
  }
  return y;
}

}  // namespace lacuna
