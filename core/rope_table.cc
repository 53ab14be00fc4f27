#include "core/rope_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/memory_category.h"

namespace lacuna {

RopeTable::RopeTable(const RopeSpec& spec, DType dtype, Device device)
    : dtype_(AccumulationType(dtype)), device_(device) {
  LACUNA_CHECK(spec.rotary_dims >= 0 && spec.rotary_dims % 2 == 0,
               "rotary_dims must be even, got {}", spec.rotary_dims);
  const int64_t dims = spec.rotary_dims;
  for (int64_t i = 0; i < dims; i += 2)
    inverse_frequencies_.push_back(
        std::pow(spec.theta, -static_cast<double>(i) / static_cast<double>(dims)));
  if (spec.yarn_factor > 1 && dims > 0) {
    // The dim whose wave length makes `rotations` turns over the original length.
    const auto correction_dim = [&](double rotations) {
      return static_cast<double>(dims) *
             std::log(static_cast<double>(spec.yarn_original_length) /
                      (rotations * 2 * std::numbers::pi)) /
             (2 * std::log(spec.theta));
    };
    const double low = std::max(std::floor(correction_dim(spec.yarn_beta_fast)), 0.0);
    const double high =
        std::min(std::ceil(correction_dim(spec.yarn_beta_slow)), static_cast<double>(dims - 1));
    const double span = high == low ? 0.001 : high - low;
    for (size_t i = 0; i < inverse_frequencies_.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / span, 0.0, 1.0);
      inverse_frequencies_[i] =
          inverse_frequencies_[i] / spec.yarn_factor * ramp + inverse_frequencies_[i] * (1 - ramp);
    }
    attention_factor_ = 0.1 * std::log(spec.yarn_factor) + 1;
  }
  Prepare(1);
}

void RopeTable::Prepare(int64_t positions) {
  if (cos_.defined() && cos_.dim(0) >= positions) return;
  const int64_t rows = std::max<int64_t>(positions, cos_.defined() ? 2 * cos_.dim(0) : 1);
  const auto half = static_cast<int64_t>(inverse_frequencies_.size());
  const MemoryScope scope(MemoryCategory::kOther);  // the table outlives the step that asks for it
  std::vector<double> cos(static_cast<size_t>(rows * half)), sin(cos.size());
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * inverse_frequencies_[static_cast<size_t>(i)];
      cos[static_cast<size_t>(p * half + i)] = attention_factor_ * std::cos(angle);
      sin[static_cast<size_t>(p * half + i)] = attention_factor_ * std::sin(angle);
    }
  }
  cos_ = Tensor::FromDoubles(cos, {rows, half}, dtype_).To(device_);
  sin_ = Tensor::FromDoubles(sin, {rows, half}, dtype_).To(device_);
}

}  // namespace lacuna
