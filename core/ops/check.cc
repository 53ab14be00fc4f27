#include "core/ops/check.h"

#include <algorithm>

#include "core/shape.h"

namespace lacuna::ops {
namespace {
Shape ShapeOf(const TensorRef& tensor) {
  return Shape(tensor.shape, tensor.shape + tensor.rank);
}
}  // namespace

std::string Describe(const TensorRef& tensor) {
  return tensor.defined() ? fmt::format("{} {}", ToString(ShapeOf(tensor)), NameOf(tensor.dtype))
                          : "nothing";
}

void CheckShape(const char* op, const char* argument, const TensorRef& tensor,
                std::initializer_list<int64_t> shape) {
  const bool same = tensor.rank == static_cast<int>(shape.size()) &&
                    std::equal(shape.begin(), shape.end(), tensor.shape);
  LACUNA_CHECK(same, "{}: {} must have shape {}, got {}", op, argument, ToString(Shape(shape)),
               Describe(tensor));
}

void CheckDType(const char* op, const char* argument, const TensorRef& tensor, DType dtype) {
  LACUNA_CHECK(tensor.dtype == dtype, "{}: {} must be {}, got {}", op, argument, NameOf(dtype),
               Describe(tensor));
}

}  // namespace lacuna::ops
