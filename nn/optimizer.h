// AdamW over a model's flat parameter buffers, with exact clipping by the global norm.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "nn/flat_parameters.h"
#include "nn/optimizer_config.h"

namespace lacuna {

// Sum of squares of all gradients, parameter by parameter in order; NaN or inf where a gradient is
// not finite.
double GradientSumOfSquares(const FlatParameters& parameters, Stream stream);
// Name of the first parameter whose gradient holds a NaN or inf.
std::optional<std::string> FirstNonFiniteGradient(const FlatParameters& parameters);

class AdamW {
 public:
  AdamW(FlatParameters& parameters, const OptimizerConfig& config);

  // One update. gradient_scale is the clipping factor min(1, clip_norm / norm). Weight decay leaves
  // norms and other parameters with weight_decay = false alone.
  void Step(double learning_rate, double gradient_scale, Stream stream);

  // Updates done so far (the exponent of the bias corrections), and the flat moments; all three are
  // checkpointed.
  int64_t num_updates() const { return num_updates_; }
  void set_num_updates(int64_t updates) { num_updates_ = updates; }
  Tensor& first_moment() { return m_; }
  Tensor& second_moment() { return v_; }

 private:
  FlatParameters& parameters_;
  OptimizerConfig config_;
  Tensor m_;
  Tensor v_;
  int64_t num_updates_ = 0;
};

}  // namespace lacuna
