// The routed experts of a layer: E SwiGLU networks whose matrices stand in two tensors.
#pragma once

#include "moe/dispatcher.h"
#include "nn/module.h"

namespace lacuna {

// The place of a rank in a group that has the experts of a layer, E / size each.
struct ExpertRank {
  int64_t rank = 0, size = 1;
};

// Parameters: gate_up_proj.weight [E, 2F, C] (gate rows first), down_proj.weight [E, C, F]; of a
// group's rank, its part of them (Parameter::part): experts [rank E / size, (rank + 1) E / size).
class Experts : public Module {
 public:
  Experts(int64_t num_experts, int64_t width, int64_t hidden, double init_std, double down_std,
          ExpertRank place = {});

  // [N, C] -> [N, C]: the weighted sum of what a token's experts make of it. `in` names experts from
  // the first one here on.
  Variable Forward(Tape& tape, const DispatchedTokens& in, bool output_is_read = true);

 private:
  Parameter* gate_up_;
  Parameter* down_;
};

}  // namespace lacuna
