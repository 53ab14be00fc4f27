#include "moe/experts.h"

#include "autograd/functions/activation.h"
#include "moe/functions.h"

namespace lacuna {

Experts::Experts(int64_t num_experts, int64_t width, int64_t hidden, double init_std,
                 double down_std)
    : gate_up_(&AddParameter("gate_up_proj.weight", {num_experts, 2 * hidden, width},
                             Init::Normal(init_std))),
      down_(&AddParameter("down_proj.weight", {num_experts, width, hidden},
                          Init::Normal(down_std))) {}

Variable Experts::Forward(Tape& tape, const ExpertRows& in) {
  return GroupedLinear(tape, SwiGlu(tape, GroupedLinear(tape, in.rows, *gate_up_, in.offsets)),
                       *down_, in.offsets);
}

}  // namespace lacuna
