#include "moe/experts.h"

namespace lacuna {

Experts::Experts(int64_t num_experts, int64_t width, int64_t hidden, double init_std,
                 double down_std)
    : gate_up_(&AddParameter("gate_up_proj.weight", {num_experts, 2 * hidden, width},
                             Init::Normal(init_std))),
      down_(
          &AddParameter("down_proj.weight", {num_experts, width, hidden}, Init::Normal(down_std))) {
  gate_up_->gradient_can_be_set = down_->gradient_can_be_set = true;
}

Variable Experts::Forward(Tape& tape, const DispatchedTokens& in) {
  return RoutedExperts(tape, in.x, in.weights, in.rows, *gate_up_, *down_);
}

}  // namespace lacuna
