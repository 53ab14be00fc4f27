#include "nn/swiglu_ffn.h"

#include "autograd/functions/activation.h"
#include "autograd/functions/linear.h"

namespace lacuna {

SwiGluFfn::SwiGluFfn(int64_t width, int64_t hidden, double init_std, double down_std)
    : gate_up_(&AddParameter("gate_up_proj.weight", {2 * hidden, width}, Init::Normal(init_std))),
      down_(&AddParameter("down_proj.weight", {width, hidden}, Init::Normal(down_std))) {}

Variable SwiGluFfn::Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) {
  return Output(ctx, Hidden(ctx, x), residual);
}

Variable SwiGluFfn::Hidden(ForwardContext& ctx, const Variable& x) {
  return SwiGlu(ctx.tape, Linear(ctx.tape, x, *gate_up_));
}

Variable SwiGluFfn::Output(ForwardContext& ctx, Variable hidden, const Variable& residual) {
  return Linear(ctx.tape, hidden, *down_, residual, ctx.output_is_read);
}

}  // namespace lacuna
