// Parameter: a named leaf of the model.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "core/tensor.h"

namespace lacuna {

// How a parameter starts. Element k of the whole tensor is a pure function of (seed, name, k),
// whatever the layout or the number of ranks.
struct Init {
  enum class Kind { kZeros, kOnes, kNormal, kFunction };
  Kind kind = Kind::kZeros;
  double std = 0;
  std::function<double(int64_t k)> element = nullptr;

  static Init Zeros() { return {Kind::kZeros}; }
  static Init Ones() { return {Kind::kOnes}; }
  static Init Normal(double std) { return {Kind::kNormal, std}; }
  static Init Function(std::function<double(int64_t k)> element) {
    return {Kind::kFunction, 0, std::move(element)};
  }
};

// Elements first_element, first_element + 1, ... of a tensor whose other elements other ranks have.
struct ParameterPart {
  Shape global_shape;
  int64_t first_element = 0;
};

struct Parameter {
  std::string name;  // full path in the model, e.g. "layers.3.attention.q_proj.weight"; unique
  Shape shape;       // of what this rank has
  std::optional<ParameterPart> part;  // none: all of it
  Init init;
  bool weight_decay = true;
  // Views into the model's flat buffers (nn/flat_parameters.h). `grad` is f32 (f64 in an f64 model)
  // and accumulates (+=).
  Tensor value;
  Tensor grad;
  // Of a parameter whose `value` is here only while somebody has gathered it: what always is.
  Tensor share;
  // True where the rule that gives the gradient can set it: `grad` then need not be zeroed before a
  // step, only marked (FlatParameters::ZeroGrad).
  bool gradient_can_be_set = false;
  // `grad` counts as zero, whatever stands there: the next gradient is set, not added.
  bool gradient_is_unset = false;
  // Called before a rule that adds to `grad`, which may have no memory until then.
  std::function<void(Parameter&)> on_grad_wanted;
  // Called once per backward pass in which hooks fire (the last micro-batch of a step), when `grad`
  // is complete.
  std::function<void(Parameter&)> on_grad_ready;

  int64_t numel() const { return NumElements(shape); }
  // Of the whole tensor, and where in it this rank's elements begin.
  const Shape& global_shape() const { return part ? part->global_shape : shape; }
  int64_t first_element() const { return part ? part->first_element : 0; }
  Device device() const { return kept().device(); }
  // Changes with the value, not with the memory that the value is in.
  uint64_t version() const { return kept().version(); }
  // For the rule: true where this gradient is to be added to what is there.
  bool AddsGradient() { return !std::exchange(gradient_is_unset, false); }

 private:
  const Tensor& kept() const { return share.defined() ? share : value; }
};

}  // namespace lacuna
