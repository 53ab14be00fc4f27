// The activation between the two matrices of phi, elementwise.
//   silu(a) = a / (1 + exp(-a)),   gelu_tanh(a) = a / 2 (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3)))
// a, y, dy, da: one shape and dtype; arithmetic in the compute type. da = dy * act'(a) is set and
// may be dy.
#pragma once

#include "core/tensor_ref.h"
#include "nsa/nsa_config.h"

namespace lacuna {

struct PhiActivationFwdArgs {
  TensorRef a, y;
  PhiActivation kind;
};
struct PhiActivationBwdArgs {
  TensorRef a, dy, da;
  PhiActivation kind;
};

namespace cpu {
void PhiActivationFwd(const PhiActivationFwdArgs&, Stream);
void PhiActivationBwd(const PhiActivationBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void PhiActivationFwd(const PhiActivationFwdArgs&, Stream);
void PhiActivationBwd(const PhiActivationBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void PhiActivationFwd(const PhiActivationFwdArgs&, Stream);
void PhiActivationBwd(const PhiActivationBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
