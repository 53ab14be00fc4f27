#include "moe/grouped_matmul.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GroupedMatMulArgs> kGroupedMatMul{
    "grouped_matmul", "x w offsets =y", cpu::GroupedMatMul, LACUNA_IF_CUDA(cuda::GroupedMatMul)};
constinit const Kernel<GroupedMatMulDwArgs> kGroupedMatMulDw{
    "grouped_matmul_dw", "dy x offsets +dw", cpu::GroupedMatMulDw,
    LACUNA_IF_CUDA(cuda::GroupedMatMulDw)};

// narrow [R, Cin] and wide [R, Cout] rows of the experts of w [E, Cout, Cin].
void CheckGroups(const char* op, const TensorRef& in, const TensorRef& out, const TensorRef& w,
                 const TensorRef& offsets) {
  LACUNA_CHECK(w.rank == 3 && in.rank == 2 && out.rank == 2 && in.dim(0) == out.dim(0),
               "{}: rows {} and {}, experts {}", op, Describe(in), Describe(out), Describe(w));
  LACUNA_CHECK(in.dim(1) == w.dim(2) && out.dim(1) == w.dim(1),
               "{}: rows {} -> {} do not fit experts {}", op, Describe(in), Describe(out),
               Describe(w));
  CheckShape(op, "offsets", offsets, {w.dim(0) + 1});
  CheckDType(op, "offsets", offsets, DType::kI64);
  CheckDType(op, "rows", out, in.dtype);
}

}  // namespace

void GroupedMatMul(const GroupedMatMulArgs& args, Stream stream) {
  constexpr const char* kOp = "grouped_matmul";
  CheckGroups(kOp, args.transpose_w ? args.x : args.y, args.transpose_w ? args.y : args.x, args.w,
              args.offsets);
  CheckDType(kOp, "w", args.w, args.x.dtype);
  kGroupedMatMul(args, stream);
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream stream) {
  constexpr const char* kOp = "grouped_matmul_dw";
  CheckGroups(kOp, args.x, args.dy, args.dw, args.offsets);
  CheckDType(kOp, "dw", args.dw, AccumulationType(args.x.dtype));
  kGroupedMatMulDw(args, stream);
}

}  // namespace lacuna::ops
