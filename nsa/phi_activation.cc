#include "nsa/phi_activation.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<PhiActivationFwdArgs> kPhiActivationFwd{"phi_activation_fwd",
                                                               cpu::PhiActivationFwd, nullptr};
constinit const Kernel<PhiActivationBwdArgs> kPhiActivationBwd{"phi_activation_bwd",
                                                               cpu::PhiActivationBwd, nullptr};

void CheckSame(const char* op, const TensorRef& a, const TensorRef& b) {
  LACUNA_CHECK(a.numel() == b.numel() && a.dtype == b.dtype, "{}: arguments differ: {} and {}", op,
               Describe(a), Describe(b));
}

}  // namespace

void PhiActivationFwd(const PhiActivationFwdArgs& args, Stream stream) {
  CheckSame("phi_activation_fwd", args.a, args.y);
  CheckDevice("phi_activation_fwd", stream, {args.a, args.y});
  kPhiActivationFwd(args, stream);
}

void PhiActivationBwd(const PhiActivationBwdArgs& args, Stream stream) {
  CheckSame("phi_activation_bwd", args.a, args.dy);
  CheckSame("phi_activation_bwd", args.a, args.da);
  CheckDevice("phi_activation_bwd", stream, {args.a, args.dy, args.da});
  kPhiActivationBwd(args, stream);
}

}  // namespace lacuna::ops
