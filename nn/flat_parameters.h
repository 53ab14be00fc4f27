// Storage of a model's parameters: flat buffers in order of use, of which every parameter is a
// view.
//
//   value   compute type (f32, f64 or bf16)   what kernels read
//   grad    accumulation type                 what backward adds to; none in a model that is only
//                                             run forward
//   master  accumulation type                 what the optimizer updates; the same buffer as
//           `value` unless that is bf16
//
// Each parameter starts at a multiple of 16 elements; the padding between stays zero.
#pragma once

#include <cstdint>
#include <vector>

#include "autograd/parameter.h"
#include "core/tensor.h"
#include "nn/module.h"

namespace lacuna {

class FlatParameters {
 public:
  struct Entry {
    Parameter* parameter;
    int64_t offset;  // of its first element in each flat buffer
  };

  // Allocates the buffers, points every parameter of `root` into them and initialises the values
  // from (seed, name). Without `gradients` there are no gradient buffers, and no backward pass.
  FlatParameters(Module& root, DType dtype, uint64_t seed, bool gradients = true,
                 Device device = kCpu);

  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }
  int64_t size() const { return value_.dim(0); }  // elements of a flat buffer, padding included
  const std::vector<Entry>& entries() const { return entries_; }

  Tensor& value() { return value_; }
  Tensor& grad() { return grad_; }
  Tensor& master() { return master_; }
  // The master copy of one parameter, in its shape.
  Tensor MasterOf(const Entry& entry) const {
    return master_.View(entry.offset, entry.parameter->shape);
  }

  // Parameters whose gradient can be set are marked instead, and hold anything until it is.
  void ZeroGrad();
  // Zeroes gradients that are still unset, of parameters that no rule reached. After the backward
  // passes of a step, before anything reads gradients.
  void ZeroUnsetGrad();
  // Rounds the master copy into the compute copy (nothing to do where they are one buffer).
  void SyncValueFromMaster();

 private:
  std::vector<Entry> entries_;
  Tensor value_;
  Tensor grad_;
  Tensor master_;
};

}  // namespace lacuna
