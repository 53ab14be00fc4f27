// Weights of an exported folder, taken by their names there, and the plain f64 arithmetic on them.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/safetensors_reader.h"

namespace lacuna {

using Doubles = std::vector<double>;

// A matrix (or vector: one column) in the folder's own type, where the file is mapped.
struct ReferenceMatrix {
  const char* data = nullptr;  // not aligned
  bool bf16 = false;           // else f32
  int64_t rows = 0, columns = 0;

  // Elements [row * columns, ...) as doubles.
  void Row(int64_t row, double* out) const;
  Doubles All() const;
};

class ReferenceWeights {
 public:
  static absl::StatusOr<std::unique_ptr<ReferenceWeights>> Open(const std::string& folder);

  // The tensor of that name, which must have that shape. The first failure is remembered, and
  // matrices given after it are empty.
  ReferenceMatrix Take(const std::string& name, const std::vector<int64_t>& shape);
  // The first failure of Take; else an error if a tensor of the folder was never taken.
  absl::Status CheckAllTaken() const;
  size_t num_tensors() const { return folder_.tensors().size(); }

 private:
  explicit ReferenceWeights(SafetensorsFolder folder) : folder_(std::move(folder)) {}

  SafetensorsFolder folder_;
  std::set<std::string> taken_;
  absl::Status failure_;
};

double Dot(const double* a, const double* b, int64_t n);
// y [T, rows] = x [T, columns] w^T
Doubles Multiply(const Doubles& x, const ReferenceMatrix& w);
// x [T, n] with each row divided by its root mean square and multiplied by `weight` [n].
Doubles RmsNormRows(const Doubles& x, const Doubles& weight, double eps);

}  // namespace lacuna
