// A tensor kept for backward. Reading it after its storage was overwritten is an error, not a wrong
// gradient.
#pragma once

#include <utility>

#include "core/tensor.h"

namespace lacuna {

class SavedTensor {
 public:
  SavedTensor() = default;
  explicit SavedTensor(Tensor tensor) : tensor_(std::move(tensor)), version_(tensor_.version()) {}

  const Tensor& get() const {
    LACUNA_CHECK(tensor_.version() == version_,
                 "a tensor {} saved for backward was overwritten since (version {}, now {})",
                 ToString(tensor_.shape()), version_, tensor_.version());
    return tensor_;
  }
  bool defined() const { return tensor_.defined(); }

 private:
  Tensor tensor_;
  uint64_t version_ = 0;
};

}  // namespace lacuna
