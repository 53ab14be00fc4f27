#include "core/ops/swiglu.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<SwiGluFwdArgs> kSwiGluFwd{"swiglu_fwd", "x =h", cpu::SwiGluFwd,
                                                 LACUNA_IF_CUDA(cuda::SwiGluFwd)};
constinit const Kernel<SwiGluBwdArgs> kSwiGluBwd{"swiglu_bwd", "x dh =dx", cpu::SwiGluBwd,
                                                 LACUNA_IF_CUDA(cuda::SwiGluBwd)};

}  // namespace

void SwiGluFwd(const SwiGluFwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.rank == 2 && args.x.dim(1) % 2 == 0, "swiglu_fwd: x must be [N, 2F], got {}",
               Describe(args.x));
  CheckShape("swiglu_fwd", "h", args.h, {args.x.dim(0), args.x.dim(1) / 2});
  CheckDType("swiglu_fwd", "h", args.h, args.x.dtype);
  kSwiGluFwd(args, stream);
}

void SwiGluBwd(const SwiGluBwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.rank == 2 && args.x.dim(1) % 2 == 0, "swiglu_bwd: x must be [N, 2F], got {}",
               Describe(args.x));
  CheckShape("swiglu_bwd", "dh", args.dh, {args.x.dim(0), args.x.dim(1) / 2});
  CheckShape("swiglu_bwd", "dx", args.dx, {args.x.dim(0), args.x.dim(1)});
  CheckDType("swiglu_bwd", "dh", args.dh, args.x.dtype);
  CheckDType("swiglu_bwd", "dx", args.dx, args.x.dtype);
  kSwiGluBwd(args, stream);
}

}  // namespace lacuna::ops
