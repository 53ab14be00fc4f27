// Argument checks of operators; each names the operator, the argument, what was found and what is
// expected.
#pragma once

#include <initializer_list>

#include "core/error.h"
#include "core/tensor_ref.h"

namespace lacuna::ops {

// `argument` has exactly this shape.
void CheckShape(const char* op, const char* argument, const TensorRef& tensor,
                std::initializer_list<int64_t> shape);
void CheckDType(const char* op, const char* argument, const TensorRef& tensor, DType dtype);
// "[2, 3] f32"
std::string Describe(const TensorRef& tensor);

}  // namespace lacuna::ops
