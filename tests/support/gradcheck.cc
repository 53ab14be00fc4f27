#include "tests/support/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "tests/support/random.h"

namespace lacuna::test {
namespace {

Tensor Weights(const Tensor& output, size_t index) {
  return RandomTensor(output.shape(), DType::kF64, 0x9000 + index);
}

std::vector<Tape::Seed> RandomSeeds(const std::vector<Variable>& outputs) {
  std::vector<Tape::Seed> seeds;
  for (size_t i = 0; i < outputs.size(); ++i)
    seeds.push_back({outputs[i], Weights(outputs[i].value(), i)});
  return seeds;
}

double WeightedSum(const Differentiable& f, const std::vector<Tensor>& inputs, bool as_it_is) {
  Tape tape(Tape::Mode::kInference);
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input);
  double sum = 0;
  const std::vector<Variable> outputs = f(tape, variables);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::vector<double> y = outputs[i].value().ToDoubles(),
                              w = Weights(outputs[i].value(), i).ToDoubles();
    for (size_t k = 0; k < y.size(); ++k) sum += y[k] * (as_it_is ? 1 : w[k]);
  }
  return sum;
}

// Compares `gradient` (of `value`) with differences of `loss` at some elements.
testing::AssertionResult CheckTensor(const std::string& name, Tensor value, const Tensor& gradient,
                                     const std::function<double()>& loss,
                                     const GradCheckOptions& options) {
  const std::vector<double> analytic =
      gradient.defined() ? gradient.ToDoubles()
                         : std::vector<double>(static_cast<size_t>(value.numel()), 0.0);
  double scale = 1;
  for (const double g : analytic) {
    if (!std::isfinite(g)) return testing::AssertionFailure() << name << ": gradient is " << g;
    scale = std::max(scale, std::abs(g));
  }
  const int64_t stride = std::max<int64_t>(1, value.numel() / options.max_elements);
  for (int64_t k = 0; k < value.numel(); k += stride) {
    double* x = value.mutable_data<double>() + k;
    const double original = *x;
    *x = original + options.step;
    const double above = loss();
    *x = original - options.step;
    const double below = loss();
    *x = original;
    const double numeric = (above - below) / (2 * options.step),
                 error = std::abs(numeric - analytic[static_cast<size_t>(k)]);
    if (!(error <= options.tolerance * scale)) {
      return testing::AssertionFailure()
             << name << "[" << k << "]: gradient " << analytic[static_cast<size_t>(k)]
             << ", differences give " << numeric << " (error " << error << " > "
             << options.tolerance << " * " << scale << ")";
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace

testing::AssertionResult GradCheck(const Differentiable& f, std::vector<Tensor> inputs,
                                   const std::vector<Parameter*>& parameters,
                                   const GradCheckOptions& options) {
  for (Parameter* parameter : parameters) parameter->grad.Zero();
  Tape tape;
  std::vector<Variable> leaves;
  for (const Tensor& input : inputs) leaves.push_back(tape.Leaf(input));
  const std::vector<Variable> outputs = f(tape, leaves);
  if (options.loss) {
    tape.BackwardFrom(outputs[0]);
  } else {
    tape.Backward(RandomSeeds(outputs));
  }
  std::vector<Tensor> gradients;
  for (const Variable& leaf : leaves) gradients.push_back(tape.Grad(leaf));

  const auto loss = [&] { return WeightedSum(f, inputs, options.loss); };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (auto result =
            CheckTensor("input " + std::to_string(i), inputs[i], gradients[i], loss, options);
        !result)
      return result;
  }
  for (Parameter* parameter : parameters) {
    const Tensor gradient = parameter->grad.Clone();
    if (auto result = CheckTensor(parameter->name, parameter->value, gradient, loss, options);
        !result)
      return result;
  }
  return testing::AssertionSuccess();
}

Parameter RandomParameter(std::string name, Shape shape, DType dtype, uint64_t seed, double scale) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.value = RandomTensor(shape, dtype, seed, scale);
  parameter.grad = Tensor::Zeros(shape, AccumulationType(dtype));
  parameter.shape = std::move(shape);
  return parameter;
}

std::vector<Parameter*> ParametersOf(Module& module) {
  std::vector<Parameter*> parameters;
  module.ForEachParameter([&](Parameter& parameter) { parameters.push_back(&parameter); });
  return parameters;
}

}  // namespace lacuna::test
