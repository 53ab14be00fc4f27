#include "tests/support/random.h"

#include "core/random.h"

namespace lacuna::test {

Tensor RandomTensor(Shape shape, DType dtype, uint64_t seed, double scale) {
  std::vector<double> values(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < values.size(); ++i) values[i] = scale * PhiloxNormal(0x7e57, seed, i);
  return Tensor::FromDoubles(values, std::move(shape), dtype);
}

Tensor RandomIds(Shape shape, int32_t bound, uint64_t seed) {
  std::vector<int32_t> values(static_cast<size_t>(NumElements(shape)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<int32_t>(PhiloxUniform(0x7e57, seed, i) * bound);
  return Tensor::FromVector(values, std::move(shape));
}

}  // namespace lacuna::test
