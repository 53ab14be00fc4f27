#include "core/ops/rms_norm.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<RmsNormFwdArgs> kRmsNormFwd{"rms_norm_fwd", "x w =y =rstd", cpu::RmsNormFwd,
                                                   LACUNA_IF_CUDA(cuda::RmsNormFwd)};
constinit const Kernel<RmsNormBwdArgs> kRmsNormBwd{
    "rms_norm_bwd", "x w rstd dy add =dx +dw", cpu::RmsNormBwd, LACUNA_IF_CUDA(cuda::RmsNormBwd)};

}  // namespace

void RmsNormFwd(const RmsNormFwdArgs& args, Stream stream) {
  constexpr const char* kOp = "rms_norm_fwd";
  LACUNA_CHECK(args.x.rank == 2, "{}: x must be [N, C], got {}", kOp, Describe(args.x));
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  CheckShape(kOp, "w", args.w, {columns});
  CheckShape(kOp, "y", args.y, {rows, columns});
  CheckShape(kOp, "rstd", args.rstd, {rows});
  CheckDType(kOp, "w", args.w, args.x.dtype);
  CheckDType(kOp, "y", args.y, args.x.dtype);
  CheckDType(kOp, "rstd", args.rstd, AccumulationType(args.x.dtype));
  kRmsNormFwd(args, stream);
}

void RmsNormBwd(const RmsNormBwdArgs& args, Stream stream) {
  constexpr const char* kOp = "rms_norm_bwd";
  LACUNA_CHECK(args.x.rank == 2, "{}: x must be [N, C], got {}", kOp, Describe(args.x));
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  CheckShape(kOp, "w", args.w, {columns});
  CheckShape(kOp, "rstd", args.rstd, {rows});
  CheckShape(kOp, "dy", args.dy, {rows, columns});
  CheckShape(kOp, "dx", args.dx, {rows, columns});
  if (args.add.defined()) {
    CheckShape(kOp, "add", args.add, {rows, columns});
    CheckDType(kOp, "add", args.add, args.x.dtype);
  }
  CheckShape(kOp, "dw", args.dw, {columns});
  CheckDType(kOp, "dy", args.dy, args.x.dtype);
  CheckDType(kOp, "dx", args.dx, args.x.dtype);
  CheckDType(kOp, "dw", args.dw, AccumulationType(args.x.dtype));
  kRmsNormBwd(args, stream);
}

}  // namespace lacuna::ops
