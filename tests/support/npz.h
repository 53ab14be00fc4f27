// Reads NumPy .npz files written by np.savez (stored, not compressed).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace lacuna::test {

struct NpzArray {
  Shape shape;
  std::vector<double> values;  // numbers of any dtype
  std::string text;            // a unicode scalar

  std::vector<int32_t> Ints() const { return {values.begin(), values.end()}; }
  Tensor ToTensor(DType dtype) const { return Tensor::FromDoubles(values, shape, dtype); }
};

// Throws lacuna::Error where the file is not what this reader knows.
std::map<std::string, NpzArray> ReadNpz(const std::string& path);

}  // namespace lacuna::test
