#include "core/ops/random_normal.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<RandomNormalArgs> kRandomNormal{"random_normal", "=y", cpu::RandomNormal,
                                                       LACUNA_IF_CUDA(cuda::RandomNormal)};
}  // namespace

void RandomNormal(const RandomNormalArgs& args, Stream stream) {
  CheckDType("random_normal", "y", args.y, AccumulationType(args.y.dtype));
  kRandomNormal(args, stream);
}

}  // namespace lacuna::ops
