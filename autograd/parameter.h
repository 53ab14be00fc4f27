// Parameter: a named leaf of the model.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "core/tensor.h"

namespace lacuna {

// How a parameter starts. Element k of the whole tensor is a pure function of (seed, name, k),
// whatever the layout or the number of ranks.
struct Init {
  enum class Kind { kZeros, kOnes, kNormal };
  Kind kind = Kind::kZeros;
  double std = 0;

  static Init Zeros() { return {Kind::kZeros, 0}; }
  static Init Ones() { return {Kind::kOnes, 0}; }
  static Init Normal(double std) { return {Kind::kNormal, std}; }
};

// Which elements of a tensor a rank holds that has a part of it: the `shape` elements from
// first_element on of a row-major tensor of global_shape.
struct ParameterPart {
  Shape global_shape;
  int64_t first_element = 0;
};

struct Parameter {
  std::string name;  // full path in the model, e.g. "layers.3.attention.q_proj.weight"; unique
  Shape shape;       // of what this rank holds
  ParameterPart part = {};  // no global_shape where this rank holds the whole tensor
  Init init;
  bool weight_decay = true;
  // Views into the model's flat buffers (nn/flat_parameters.h). `grad` is f32 (f64 in an f64 model)
  // and accumulates (+=).
  Tensor value;
  Tensor grad;
  // True where the rule that gives the gradient can set it: `grad` then need not be zeroed before a
  // step, only marked (FlatParameters::ZeroGrad).
  bool gradient_can_be_set = false;
  // `grad` counts as zero, whatever stands there: the next gradient is set, not added.
  bool gradient_is_unset = false;
  // Called once per backward pass in which hooks fire (the last micro-batch of a step), when `grad`
  // is complete.
  std::function<void(Parameter&)> on_grad_ready;

  int64_t numel() const { return NumElements(shape); }
  // Of the whole tensor, of which ranks may hold parts.
  const Shape& global_shape() const {
    return part.global_shape.empty() ? shape : part.global_shape;
  }
  // For the rule: true where this gradient is to be added to what is there.
  bool AddsGradient() { return !std::exchange(gradient_is_unset, false); }
};

}  // namespace lacuna
