#include "moe/grouped_swiglu.h"

#include <utility>

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GroupedSwiGluArgs> kGroupedSwiGlu{
    "grouped_swiglu", "x w offsets =z =h", cpu::GroupedSwiGlu, LACUNA_IF_CUDA(cuda::GroupedSwiGlu)};
// The rows of other chunks stay.
constinit const Kernel<GroupedSwiGluArgs> kGroupedSwiGluOfChunk{
    "grouped_swiglu_chunk", "x w offsets +z +h", cpu::GroupedSwiGlu,
    LACUNA_IF_CUDA(cuda::GroupedSwiGlu)};
constinit const Kernel<RoutedSwiGluBwdArgs> kRoutedSwiGluBwd{
    "routed_swiglu_bwd", "dy down offsets z position w =dz =wh =dw", cpu::RoutedSwiGluBwd,
    LACUNA_IF_CUDA(cuda::RoutedSwiGluBwd)};

}  // namespace

void GroupedSwiGlu(const GroupedSwiGluArgs& args, Stream stream) {
  constexpr const char* kOp = "grouped_swiglu";
  LACUNA_CHECK(args.x.rank == 2 && args.w.rank == 3 && args.h.rank == 2, "{}: x {}, w {}, h {}",
               kOp, Describe(args.x), Describe(args.w), Describe(args.h));
  const int64_t rows = args.x.dim(0), width = args.h.dim(1);
  CheckShape(kOp, "w", args.w, {args.w.dim(0), 2 * width, args.x.dim(1)});
  CheckChunk(kOp, args.chunks, args.chunk);
  CheckShape(kOp, "offsets", args.offsets, {args.w.dim(0) * args.chunks + 1});
  CheckShape(kOp, "z", args.z, {rows, 2 * width});
  CheckShape(kOp, "h", args.h, {rows, width});
  CheckDType(kOp, "offsets", args.offsets, DType::kI64);
  CheckDType(kOp, "w", args.w, args.x.dtype);
  CheckDType(kOp, "z", args.z, args.x.dtype);
  CheckDType(kOp, "h", args.h, args.x.dtype);
  (args.chunk == kAllChunks ? kGroupedSwiGlu : kGroupedSwiGluOfChunk)(args, stream);
}

void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs& args, Stream stream) {
  constexpr const char* kOp = "routed_swiglu_bwd";
  LACUNA_CHECK(args.dy.rank == 2 && args.down.rank == 3 && args.position.rank == 2 &&
                   args.position.numel() >= args.dy.dim(0),
               "{}: dy {}, down {}, position {}", kOp, Describe(args.dy), Describe(args.down),
               Describe(args.position));
  const int64_t rows = args.dy.dim(0), width = args.down.dim(2);
  CheckShape(kOp, "down", args.down, {args.down.dim(0), args.dy.dim(1), width});
  CheckShape(kOp, "offsets", args.offsets, {args.down.dim(0) * args.chunks + 1});
  CheckShape(kOp, "z", args.z, {rows, 2 * width});
  CheckShape(kOp, "dz", args.dz, {rows, 2 * width});
  CheckShape(kOp, "wh", args.wh, {rows, width});
  CheckShape(kOp, "w", args.w, {args.position.dim(0), args.position.dim(1)});
  CheckShape(kOp, "dw", args.dw, {args.position.dim(0), args.position.dim(1)});
  CheckDType(kOp, "position", args.position, DType::kI32);
  CheckDType(kOp, "offsets", args.offsets, DType::kI64);
  for (const auto& [name, t] :
       {std::pair{"down", &args.down}, {"z", &args.z}, {"dz", &args.dz}, {"wh", &args.wh}})
    CheckDType(kOp, name, *t, args.dy.dtype);
  CheckDType(kOp, "w", args.w, AccumulationType(args.dy.dtype));
  CheckDType(kOp, "dw", args.dw, AccumulationType(args.dy.dtype));
  kRoutedSwiGluBwd(args, stream);
}

}  // namespace lacuna::ops
