// AdamW over a model's flat parameter buffers, with exact clipping by the global norm.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "nn/flat_parameters.h"
#include "nn/optimizer_config.h"

namespace lacuna {

// The size of all gradients, left where the parameters are: the update can follow without the host
// having looked at it.
struct GradientNorm {
  Tensor squares;  // [entries] f64, sum of squares of each parameter's gradient
  // [1] f64, what the gradients are to be multiplied by: min(1, clip_norm / norm), 1 where clip_norm
  // is 0, NaN (no update) where a gradient or the loss is not finite.
  Tensor clip_factor;
};
// Sums a tensor over the ranks of the run, in place.
using SumOverRanksFn = std::function<void(Tensor&)>;
// loss: [1] in the accumulation type. Each rank measures its shares (nn/flat_layout.h); with several
// ranks sum_over_ranks makes them the squares of all, so that every rank clips alike, and the same
// bits whether updates are sharded or not.
GradientNorm MeasureGradients(const FlatParameters& parameters, const Tensor& loss,
                              double clip_norm, const SumOverRanksFn& sum_over_ranks = {});

// `squares` of GradientNorm on the host -> the global norm; the name of the first parameter whose
// gradient holds a NaN or inf.
double NormOf(const std::vector<double>& squares);
std::optional<std::string> FirstNonFinite(const FlatParameters& parameters,
                                          const std::vector<double>& squares);

class AdamW {
 public:
  AdamW(FlatParameters& parameters, const OptimizerConfig& config);

  // One update of what this rank updates, or none where clip_factor is NaN: then set_num_updates has to take the step back
  // when the host has seen it. Weight decay leaves norms and other parameters with weight_decay =
  // false alone.
  void Step(double learning_rate, const Tensor& clip_factor);

  // Updates done so far (the exponent of the bias corrections), and the moments of what is updated
  // here, of the config's type; all three are checkpointed.
  int64_t num_updates() const { return num_updates_; }
  void set_num_updates(int64_t updates) { num_updates_ = updates; }
  Tensor& first_moment() { return m_; }
  Tensor& second_moment() { return v_; }
  Tensor FirstMomentOf(const FlatPiece& piece) const { return m_.View(piece.local, {piece.count}); }
  Tensor SecondMomentOf(const FlatPiece& piece) const {
    return v_.View(piece.local, {piece.count});
  }

 private:
  FlatParameters& parameters_;
  OptimizerConfig config_;
  Tensor m_;
  Tensor v_;
  int64_t num_updates_ = 0;
};

}  // namespace lacuna
