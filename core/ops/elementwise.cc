#include "core/ops/elementwise.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<AddArgs> kAdd{"add", cpu::Add, LACUNA_IF_CUDA(cuda::Add)};
constinit const Kernel<FillArgs> kFill{"fill", cpu::Fill, LACUNA_IF_CUDA(cuda::Fill)};
constinit const Kernel<CastArgs> kCast{"cast", cpu::Cast, LACUNA_IF_CUDA(cuda::Cast)};
constinit const Kernel<SigmoidFwdArgs> kSigmoidFwd{"sigmoid_fwd", cpu::SigmoidFwd, nullptr};
constinit const Kernel<SigmoidBwdArgs> kSigmoidBwd{"sigmoid_bwd", cpu::SigmoidBwd, nullptr};

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
  CheckDevice("add", stream, {args.a, args.b, args.y});
  kAdd(args, stream);
}

void Fill(const FillArgs& args, Stream stream) {
  CheckDevice("fill", stream, {args.y});
  kFill(args, stream);
}

void Cast(const CastArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.numel() == args.y.numel(), "cast: {} into {}", Describe(args.x),
               Describe(args.y));
  CheckDevice("cast", stream, {args.x, args.y});
  kCast(args, stream);
}

void SigmoidFwd(const SigmoidFwdArgs& args, Stream stream) {
  CheckGate("sigmoid_fwd", args.x, args.y);
  CheckDevice("sigmoid_fwd", stream, {args.x, args.y});
  kSigmoidFwd(args, stream);
}

void SigmoidBwd(const SigmoidBwdArgs& args, Stream stream) {
  CheckSame("sigmoid_bwd", args.y, args.dy);
  CheckGate("sigmoid_bwd", args.dx, args.y);
  CheckDevice("sigmoid_bwd", stream, {args.y, args.dy, args.dx});
  kSigmoidBwd(args, stream);
}

}  // namespace lacuna::ops
