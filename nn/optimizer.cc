#include "nn/optimizer.h"

#include <cmath>

#include "core/ops/adamw.h"
#include "core/ops/reduce.h"

namespace lacuna {
namespace {

double SumOfSquares(const Tensor& x, Stream stream) {
  double result = 0;
  ops::SumOfSquares({.x = x.Ref(), .result = &result}, stream);
  return result;
}

}  // namespace

double GradientSumOfSquares(const FlatParameters& parameters, Stream stream) {
  double total = 0;
  for (const FlatParameters::Entry& entry : parameters.entries())
    total += SumOfSquares(entry.parameter->grad, stream);
  return total;
}

std::optional<std::string> FirstNonFiniteGradient(const FlatParameters& parameters) {
  for (const FlatParameters::Entry& entry : parameters.entries()) {
    if (!std::isfinite(SumOfSquares(entry.parameter->grad, kCpuStream)))
      return entry.parameter->name;
  }
  return std::nullopt;
}

AdamW::AdamW(FlatParameters& parameters, const OptimizerConfig& config)
    : parameters_(parameters),
      config_(config),
      m_(Tensor::ZerosLike(parameters.master())),
      v_(Tensor::ZerosLike(parameters.master())) {}

void AdamW::Step(double learning_rate, double gradient_scale, Stream stream) {
  ++num_updates_;
  for (const FlatParameters::Entry& entry : parameters_.entries()) {
    Parameter& parameter = *entry.parameter;
    const Shape flat = {parameter.numel()};
    Tensor master = parameters_.master().View(entry.offset, flat),
           value = parameters_.value().View(entry.offset, flat);
    Tensor m = m_.View(entry.offset, flat), v = v_.View(entry.offset, flat);
    ops::AdamW({.master = master.MutableRef(),
                .value = value.MutableRef(),
                .grad = parameter.grad.Ref(),
                .m = m.MutableRef(),
                .v = v.MutableRef(),
                .learning_rate = learning_rate,
                .beta1 = config_.beta1,
                .beta2 = config_.beta2,
                .eps = config_.eps,
                .weight_decay = parameter.weight_decay ? config_.weight_decay : 0.0,
                .gradient_scale = gradient_scale,
                .step = num_updates_},
               stream);
  }
}

}  // namespace lacuna
