#include "core/ops/rope.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<RopeArgs> kRope{"rope", "x positions cos sin =y", cpu::Rope,
                                       LACUNA_IF_CUDA(cuda::Rope)};
}  // namespace

void Rope(const RopeArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.rank == 3, "rope: x must be [N, heads, D], got {}", Describe(args.x));
  CheckShape("rope", "y", args.y, {args.x.dim(0), args.x.dim(1), args.x.dim(2)});
  CheckDType("rope", "y", args.y, args.x.dtype);
  CheckShape("rope", "positions", args.positions, {args.x.dim(0)});
  CheckDType("rope", "positions", args.positions, DType::kI32);
  CheckShape("rope", "sin", args.sin, {args.cos.dim(0), args.cos.dim(1)});
  CheckDType("rope", "cos", args.cos, AccumulationType(args.x.dtype));
  CheckDType("rope", "sin", args.sin, AccumulationType(args.x.dtype));
  LACUNA_CHECK(2 * args.cos.dim(1) <= args.x.dim(2), "rope: {} rotary dims in heads of {}",
               2 * args.cos.dim(1), args.x.dim(2));
  kRope(args, stream);
}

}  // namespace lacuna::ops
