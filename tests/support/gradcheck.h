// Gradients of a rule or module against central differences in f64.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "autograd/tape.h"
#include "nn/module.h"

namespace lacuna::test {

struct GradCheckOptions {
  double step = 1e-6;
  double tolerance = 1e-7;    // relative to max(1, largest gradient of the tensor)
  int64_t max_elements = 60;  // of each tensor, spread evenly; all where it has fewer
  bool loss = false;          // f has one output, which is differentiated as it is
};

using Differentiable = std::function<std::vector<Variable>(Tape&, const std::vector<Variable>&)>;

// f maps f64 inputs to outputs; parameters (f64 value and grad) may be used inside. The scalar that
// is differentiated is the sum of all outputs weighted by fixed random numbers. Checks every input
// and every parameter.
testing::AssertionResult GradCheck(const Differentiable& f, std::vector<Tensor> inputs,
                                   const std::vector<Parameter*>& parameters = {},
                                   const GradCheckOptions& options = {});

// A stand-alone parameter with storage of its own and random (normal, times scale) values.
Parameter RandomParameter(std::string name, Shape shape, DType dtype, uint64_t seed,
                          double scale = 1.0);
// All parameters of a module.
std::vector<Parameter*> ParametersOf(Module& module);

}  // namespace lacuna::test
