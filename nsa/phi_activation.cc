#include "nsa/phi_activation.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<PhiActivationFwdArgs> kPhiActivationFwd{
    "phi_activation_fwd", "a =y", cpu::PhiActivationFwd, LACUNA_IF_CUDA(cuda::PhiActivationFwd)};
constinit const Kernel<PhiActivationBwdArgs> kPhiActivationBwd{
    "phi_activation_bwd", "a dy =da", cpu::PhiActivationBwd,
    LACUNA_IF_CUDA(cuda::PhiActivationBwd)};

void CheckSame(const char* op, const TensorRef& a, const TensorRef& b) {
  LACUNA_CHECK(a.numel() == b.numel() && a.dtype == b.dtype, "{}: arguments differ: {} and {}", op,
               Describe(a), Describe(b));
}

}  // namespace

void PhiActivationFwd(const PhiActivationFwdArgs& args, Stream stream) {
  CheckSame("phi_activation_fwd", args.a, args.y);
  kPhiActivationFwd(args, stream);
}

void PhiActivationBwd(const PhiActivationBwdArgs& args, Stream stream) {
  CheckSame("phi_activation_bwd", args.a, args.dy);
  CheckSame("phi_activation_bwd", args.a, args.da);
  kPhiActivationBwd(args, stream);
}

}  // namespace lacuna::ops
