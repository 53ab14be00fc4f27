#include "core/ops/elementwise.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<AddArgs> kAdd{"add", "a b =y", cpu::Add, LACUNA_IF_CUDA(cuda::Add)};
constinit const Kernel<FillArgs> kFill{"fill", "=y", cpu::Fill, LACUNA_IF_CUDA(cuda::Fill)};
constinit const Kernel<CastArgs> kCast{"cast", "x =y", cpu::Cast, LACUNA_IF_CUDA(cuda::Cast)};
constinit const Kernel<SigmoidFwdArgs> kSigmoidFwd{"sigmoid_fwd", "x =y", cpu::SigmoidFwd,
                                                   LACUNA_IF_CUDA(cuda::SigmoidFwd)};
constinit const Kernel<SigmoidBwdArgs> kSigmoidBwd{"sigmoid_bwd", "y dy =dx", cpu::SigmoidBwd,
                                                   LACUNA_IF_CUDA(cuda::SigmoidBwd)};

void CheckSame(const char* op, const TensorRef& a, const TensorRef& b) {
  LACUNA_CHECK(a.numel() == b.numel() && a.dtype == b.dtype, "{}: arguments differ: {} and {}", op,
               Describe(a), Describe(b));
}

// `y` goes with `x`: as many elements, in x's dtype or its accumulation type.
void CheckGate(const char* op, const TensorRef& x, const TensorRef& y) {
  LACUNA_CHECK(
      x.numel() == y.numel() && (y.dtype == x.dtype || y.dtype == AccumulationType(x.dtype)),
      "{}: x {}, y {}", op, Describe(x), Describe(y));
}

}  // namespace

void Add(const AddArgs& args, Stream stream) {
  CheckSame("add", args.a, args.b);
  CheckSame("add", args.a, args.y);
  kAdd(args, stream);
}

void Fill(const FillArgs& args, Stream stream) {
  kFill(args, stream);
}

void Cast(const CastArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.numel() == args.y.numel(), "cast: {} into {}", Describe(args.x),
               Describe(args.y));
  kCast(args, stream);
}

void SigmoidFwd(const SigmoidFwdArgs& args, Stream stream) {
  CheckGate("sigmoid_fwd", args.x, args.y);
  kSigmoidFwd(args, stream);
}

void SigmoidBwd(const SigmoidBwdArgs& args, Stream stream) {
  CheckSame("sigmoid_bwd", args.y, args.dy);
  CheckGate("sigmoid_bwd", args.dx, args.y);
  kSigmoidBwd(args, stream);
}

}  // namespace lacuna::ops
