// Cosines and sines of rotary position embedding, with YaRN context extension (Peng et al., 2023;
// Hugging Face's "yarn" with truncate on). The table does not depend on the length it is used for:
// position p always has the same row.
//
//   inv_freq[i] = theta^(-2i / R); YaRN blends inv_freq / factor (slow dims) with inv_freq (fast
//     dims) by a linear ramp;
//   cos and sin are multiplied by attention_factor = 0.1 ln(factor) + 1, so only rotary dims feel
//     it (1 for factor <= 1).
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace lacuna {

struct RopeSpec {
  int64_t rotary_dims = 64;  // R, even
  double theta = 10000.0;
  double yarn_factor = 1.0;  // 1: plain RoPE
  int64_t yarn_original_length = 8192;
  double yarn_beta_fast = 32.0;
  double yarn_beta_slow = 1.0;
};

class RopeTable {
 public:
  // `dtype` is the model's; the table is kept in its accumulation type, on `device`.
  RopeTable(const RopeSpec& spec, DType dtype, Device device = kCpu);

  // Makes rows for positions 0 .. positions - 1; keeps what is there.
  void Prepare(int64_t positions);

  const Tensor& cos() const { return cos_; }  // [P, R/2]
  const Tensor& sin() const { return sin_; }
  const std::vector<double>& inverse_frequencies() const { return inverse_frequencies_; }
  double attention_factor() const { return attention_factor_; }

 private:
  DType dtype_;
  Device device_;
  std::vector<double> inverse_frequencies_;
  double attention_factor_ = 1.0;
  Tensor cos_;
  Tensor sin_;
};

}  // namespace lacuna
