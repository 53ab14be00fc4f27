#include "moe/grouped_matmul.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GroupedMatMulArgs> kGroupedMatMul{
    "grouped_matmul", "x w offsets =y", cpu::GroupedMatMul, LACUNA_IF_CUDA(cuda::GroupedMatMul)};
// The rows of other chunks stay.
constinit const Kernel<GroupedMatMulArgs> kGroupedMatMulOfChunk{
    "grouped_matmul_chunk", "x w offsets +y", cpu::GroupedMatMul,
    LACUNA_IF_CUDA(cuda::GroupedMatMul)};
constinit const Kernel<GroupedMatMulDwArgs> kGroupedMatMulDw{
    "grouped_matmul_dw", "dy x offsets +dw", cpu::GroupedMatMulDw,
    LACUNA_IF_CUDA(cuda::GroupedMatMulDw)};

// narrow [R, Cin] and wide [R, Cout] rows of the experts of w [E, Cout, Cin].
void CheckGroups(const char* op, const TensorRef& in, const TensorRef& out, const TensorRef& w,
                 const TensorRef& offsets, int64_t chunks) {
  LACUNA_CHECK(w.rank == 3 && in.rank == 2 && out.rank == 2 && in.dim(0) == out.dim(0),
               "{}: rows {} and {}, experts {}", op, Describe(in), Describe(out), Describe(w));
  LACUNA_CHECK(in.dim(1) == w.dim(2) && out.dim(1) == w.dim(1),
               "{}: rows {} -> {} do not fit experts {}", op, Describe(in), Describe(out),
               Describe(w));
  CheckShape(op, "offsets", offsets, {w.dim(0) * chunks + 1});
  CheckDType(op, "offsets", offsets, DType::kI64);
  CheckDType(op, "rows", out, in.dtype);
}

}  // namespace

void CheckChunk(const char* op, int64_t chunks, int64_t chunk) {
  LACUNA_CHECK(chunks > 0 && chunk >= kAllChunks && chunk < chunks, "{}: chunk {} of {}", op, chunk,
               chunks);
}

void GroupedMatMul(const GroupedMatMulArgs& args, Stream stream) {
  constexpr const char* kOp = "grouped_matmul";
  CheckGroups(kOp, args.transpose_w ? args.x : args.y, args.transpose_w ? args.y : args.x, args.w,
              args.offsets, args.chunks);
  CheckChunk(kOp, args.chunks, args.chunk);
  CheckDType(kOp, "w", args.w, args.x.dtype);
  (args.chunk == kAllChunks ? kGroupedMatMul : kGroupedMatMulOfChunk)(args, stream);
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream stream) {
  constexpr const char* kOp = "grouped_matmul_dw";
  CheckGroups(kOp, args.x, args.dy, args.dw, args.offsets, args.chunks);
  CheckDType(kOp, "dw", args.dw, AccumulationType(args.x.dtype));
  kGroupedMatMulDw(args, stream);
}

}  // namespace lacuna::ops
