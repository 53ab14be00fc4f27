// Comparing tensors. Non-finite values are compared first and by kind; a failure prints the worst
// element.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/tensor.h"

namespace lacuna::test {

// Tolerances relative to the largest expected magnitude: the one table of the project.
//   f64 against f64: rounding of sums in another order; f32 and bf16: one rounding of inputs and
//     outputs, sums in f32.
constexpr double Tolerance(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 1e-12;
    case DType::kF32:
      return 1e-5;
    default:
      return 1e-2;
  }
}

// max |actual - expected| <= tolerance * max(1, max |expected|).
testing::AssertionResult Close(const std::vector<double>& actual,
                               const std::vector<double>& expected, double tolerance);
testing::AssertionResult Close(const Tensor& actual, const Tensor& expected, double tolerance);
testing::AssertionResult Close(const Tensor& actual, const std::vector<double>& expected,
                               double tolerance);

// The rule for matrix products and attention: error(ours, exact) <= factor * error(naive in the
// same dtype, exact) + tiny, in the root mean square over the tensor; factor 2 forward, 3 for
// gradients.
testing::AssertionResult WithinNaiveError(const Tensor& actual, const std::vector<double>& naive,
                                          const std::vector<double>& exact, double factor);

// Bit for bit; prints the first element that differs.
testing::AssertionResult SameBits(const Tensor& actual, const Tensor& expected);

}  // namespace lacuna::test
