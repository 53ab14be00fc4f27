// What every attention module of a model shares: its shape, its start and its rotary table.
#pragma once

#include <cstdint>
#include <memory>

#include "core/rope_table.h"

namespace lacuna {

struct AttentionSpec {
  int64_t width = 0;        // C
  int64_t num_heads = 0;    // H
  int64_t num_groups = 0;   // G, divides H
  int64_t head_dim_qk = 0;  // Dk
  int64_t head_dim_v = 0;   // Dv
  bool qk_norm = false;
  double norm_eps = 1e-5;
  double init_std = 0.02;
  double out_std = 0.02;            // of o_proj
  std::shared_ptr<RopeTable> rope;  // one for all layers
};

}  // namespace lacuna
