// The value of a parameter that backward reads again. It may have left its memory since and be in
// other memory now (Parameter::share), but it has to be there, and the same.
#pragma once

#include "autograd/parameter.h"

namespace lacuna {

class SavedValue {
 public:
  SavedValue() = default;
  explicit SavedValue(const Parameter& parameter)
      : parameter_(&parameter), version_(parameter.version()) {}

  const Tensor& get() const {
    LACUNA_CHECK(parameter_->value.defined(), "{}: backward reads a value that is not here",
                 parameter_->name);
    LACUNA_CHECK(parameter_->version() == version_,
                 "{}: a value saved for backward was overwritten since (version {}, now {})",
                 parameter_->name, version_, parameter_->version());
    return parameter_->value;
  }

 private:
  const Parameter* parameter_ = nullptr;
  uint64_t version_ = 0;
};

}  // namespace lacuna
