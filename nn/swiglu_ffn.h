// Dense feed-forward layer: down(silu(gate x) * up x), the gate and up projections in one matrix.
#pragma once

#include "nn/attention.h"

namespace lacuna {

// Parameters: gate_up_proj.weight [2F, C] (gate rows first), down_proj.weight [C, F].
class SwiGluFfn : public FeedForward {
 public:
  // down_std: standard deviation of the output projection's start.
  SwiGluFfn(int64_t width, int64_t hidden, double init_std, double down_std);

  Variable Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) override;
  // Its halves, for who has something to do between them:
  //   Hidden  silu(gate x) * up x, [N, F]: two thirds of the FLOPs
  //   Output  residual + down hidden, [N, C]
  Variable Hidden(ForwardContext& ctx, const Variable& x);
  Variable Output(ForwardContext& ctx, Variable hidden, const Variable& residual);

 private:
  Parameter* gate_up_;
  Parameter* down_;
};

}  // namespace lacuna
