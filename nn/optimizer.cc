#include "nn/optimizer.h"

#include <cmath>

#include "core/memory_category.h"
#include "core/ops/adamw.h"
#include "core/ops/reduce.h"
#include "core/stream.h"

namespace lacuna {

GradientNorm MeasureGradients(const FlatParameters& parameters, const Tensor& loss,
                              double clip_norm, const SumOverRanksFn& sum_over_ranks) {
  const Device device = parameters.device();
  const Stream stream = ComputeStream(device);
  const auto entries = static_cast<int64_t>(parameters.entries().size());
  GradientNorm norm{.squares = Tensor::Empty({entries}, DType::kF64, device),
                    .clip_factor = Tensor::Empty({1}, DType::kF64, device)};
  const std::vector<FlatPiece>& counted = parameters.layout().counted;
  if (counted.size() < parameters.entries().size()) norm.squares.Zero();
  for (const FlatPiece& piece : counted) {
    Tensor square = norm.squares.View(static_cast<int64_t>(piece.entry), {1});
    ops::SumOfSquares({.x = parameters.GradOf(piece).Ref(), .result = square.MutableRef()}, stream);
  }
  if (sum_over_ranks) sum_over_ranks(norm.squares);
  ops::ClipFactor({.squares = norm.squares.Ref(),
                   .loss = loss.Ref(),
                   .factor = norm.clip_factor.MutableRef(),
                   .clip_norm = clip_norm},
                  stream);
  return norm;
}

double NormOf(const std::vector<double>& squares) {
  double total = 0;
  for (const double square : squares) total += square;
  return std::sqrt(total);
}

std::optional<std::string> FirstNonFinite(const FlatParameters& parameters,
                                          const std::vector<double>& squares) {
  for (size_t i = 0; i < squares.size(); ++i) {
    if (!std::isfinite(squares[i])) return parameters.entries()[i].parameter->name;
  }
  return std::nullopt;
}

AdamW::AdamW(FlatParameters& parameters, const OptimizerConfig& config)
    : parameters_(parameters), config_(config) {
  const MemoryScope scope(MemoryCategory::kOptimizer);
  const DType dtype =
      config.moments == MomentType::kBF16 ? DType::kBF16 : parameters.master().dtype();
  m_ = Tensor::Zeros({parameters.layout().local_size}, dtype, parameters.device());
  v_ = Tensor::Zeros({parameters.layout().local_size}, dtype, parameters.device());
}

void AdamW::Step(double learning_rate, const Tensor& clip_factor) {
  const Stream stream = ComputeStream(parameters_.device());
  ++num_updates_;
  for (const FlatPiece& piece : parameters_.layout().updated) {
    const Parameter& parameter = *parameters_.entries()[piece.entry].parameter;
    Tensor master = parameters_.MasterOf(piece), value = parameters_.ValueOf(piece);
    Tensor m = FirstMomentOf(piece), v = SecondMomentOf(piece);
    ops::AdamW({.master = master.MutableRef(),
                .value = value.MutableRef(),
                .grad = parameters_.GradOf(piece).Ref(),
                .m = m.MutableRef(),
                .v = v.MutableRef(),
                .gradient_scale = clip_factor.Ref(),
                .learning_rate = learning_rate,
                .beta1 = config_.beta1,
                .beta2 = config_.beta2,
                .eps = config_.eps,
                .weight_decay = parameter.weight_decay ? config_.weight_decay : 0.0,
                .step = num_updates_},
               stream);
  }
}

}  // namespace lacuna
