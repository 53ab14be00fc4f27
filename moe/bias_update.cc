#include "moe/bias_update.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<UpdateBiasArgs> kUpdateBias{"update_bias", "counts +bias", cpu::UpdateBias,
                                                   LACUNA_IF_CUDA(cuda::UpdateBias)};

}  // namespace

void UpdateBias(const UpdateBiasArgs& args, Stream stream) {
  constexpr const char* kOp = "update_bias";
  LACUNA_CHECK(args.counts.rank == 1 && args.bias.dtype == AccumulationType(args.bias.dtype),
               "{}: counts {}, bias {}", kOp, Describe(args.counts), Describe(args.bias));
  CheckDType(kOp, "counts", args.counts, DType::kF64);
  CheckShape(kOp, "bias", args.bias, {args.counts.dim(0)});
  kUpdateBias(args, stream);
}

}  // namespace lacuna::ops
