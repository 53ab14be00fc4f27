#include "core/ops/cross_entropy.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<CrossEntropyArgs> kCrossEntropy{"cross_entropy", "+logits targets =loss",
                                                       cpu::CrossEntropy,
                                                       LACUNA_IF_CUDA(cuda::CrossEntropy)};
}  // namespace

void CrossEntropy(const CrossEntropyArgs& args, Stream stream) {
  LACUNA_CHECK(args.logits.rank == 2, "cross_entropy: logits must be [N, V], got {}",
               Describe(args.logits));
  CheckShape("cross_entropy", "targets", args.targets, {args.logits.dim(0)});
  CheckShape("cross_entropy", "loss", args.loss, {args.logits.dim(0)});
  CheckDType("cross_entropy", "targets", args.targets, DType::kI32);
  CheckDType("cross_entropy", "loss", args.loss, AccumulationType(args.logits.dtype));
  kCrossEntropy(args, stream);
}

}  // namespace lacuna::ops
