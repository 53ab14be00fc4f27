// The routed experts of a layer: E SwiGLU networks whose matrices stand in two tensors.
#pragma once

#include "moe/dispatcher.h"
#include "nn/module.h"

namespace lacuna {

// Parameters: gate_up_proj.weight [E, 2F, C] (gate rows first), down_proj.weight [E, C, F].
class Experts : public Module {
 public:
  Experts(int64_t num_experts, int64_t width, int64_t hidden, double init_std, double down_std);

  // [N, C] -> [N, C]: the weighted sum of what a token's experts make of it.
  Variable Forward(Tape& tape, const DispatchedTokens& in);

 private:
  Parameter* gate_up_;
  Parameter* down_;
};

}  // namespace lacuna
