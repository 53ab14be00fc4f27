// Variable: a tensor's value on a tape. A plain Tensor (block lists, routing ids, masks) never
// carries a gradient.
#pragma once

#include <cstdint>
#include <utility>

#include "core/tensor.h"

namespace lacuna {

class Variable {
 public:
  Variable() = default;
  // A constant: no gradient flows into it.
  explicit Variable(Tensor value) : value_(std::move(value)) {}

  const Tensor& value() const { return value_; }
  // The value for a rule that may overwrite it when it is unique(); its gradient's place stays here.
  Tensor TakeValue() { return std::move(value_); }
  const Shape& shape() const { return value_.shape(); }
  int64_t dim(int dim) const { return value_.dim(dim); }
  DType dtype() const { return value_.dtype(); }
  bool defined() const { return value_.defined(); }
  bool requires_grad() const { return slot_ >= 0; }

 private:
  friend class Tape;
  Variable(Tensor value, int32_t slot) : value_(std::move(value)), slot_(slot) {}

  Tensor value_;
  int32_t slot_ = -1;  // where the tape keeps its gradient
};

}  // namespace lacuna
