#include "moe/permute.h"

#include <limits>

#include "core/kernel.h"
#include "core/ops/check.h"
#include "moe/expert_limit.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<SortByExpertArgs> kSortByExpert{"sort_by_expert", "ids =offsets =position",
                                                       cpu::SortByExpert,
                                                       LACUNA_IF_CUDA(cuda::SortByExpert)};
constinit const Kernel<PermuteRowsArgs> kPermuteRows{
    "permute_rows", "x position =y", cpu::PermuteRows, LACUNA_IF_CUDA(cuda::PermuteRows)};
constinit const Kernel<PermuteRowsArgs> kPermuteSomeRows{
    "permute_some_rows", "x position +y", cpu::PermuteRows, LACUNA_IF_CUDA(cuda::PermuteRows)};
constinit const Kernel<UnpermuteRowsArgs> kUnpermuteRows{
    "unpermute_rows", "x position w =y", cpu::UnpermuteRows, LACUNA_IF_CUDA(cuda::UnpermuteRows)};

// tokens [N, C], routed [R, C], position [N, K], w [N, K] or undefined.
void CheckRows(const char* op, const TensorRef& tokens, const TensorRef& routed,
               const TensorRef& position, const TensorRef& w) {
  LACUNA_CHECK(tokens.rank == 2 && position.rank == 2 && position.dim(0) == tokens.dim(0),
               "{}: {} tokens, positions {}", op, Describe(tokens), Describe(position));
  LACUNA_CHECK(routed.rank == 2, "{}: routed rows {}", op, Describe(routed));
  CheckShape(op, "routed rows", routed, {routed.dim(0), tokens.dim(1)});
  CheckDType(op, "routed rows", routed, tokens.dtype);
  CheckDType(op, "position", position, DType::kI32);
  if (!w.defined()) return;
  CheckShape(op, "w", w, {position.dim(0), position.dim(1)});
  CheckDType(op, "w", w, AccumulationType(tokens.dtype));
}

}  // namespace

void SortByExpert(const SortByExpertArgs& args, Stream stream) {
  constexpr const char* kOp = "sort_by_expert";
  LACUNA_CHECK(args.ids.rank == 2 && args.offsets.rank == 1 && args.offsets.dim(0) >= 2,
               "{}: ids {}, offsets {}", kOp, Describe(args.ids), Describe(args.offsets));
  LACUNA_CHECK(args.ids.numel() <= std::numeric_limits<int32_t>::max(),
               "{}: {} routed rows, at most 2^31 - 1", kOp, args.ids.numel());
  CheckShape(kOp, "position", args.position, {args.ids.dim(0), args.ids.dim(1)});
  CheckDType(kOp, "ids", args.ids, DType::kI32);
  CheckDType(kOp, "offsets", args.offsets, DType::kI64);
  CheckDType(kOp, "position", args.position, DType::kI32);
  CheckNumExperts(kOp, args.offsets.dim(0) - 1, stream);
  kSortByExpert(args, stream);
}

void PermuteRows(const PermuteRowsArgs& args, Stream stream) {
  constexpr const char* kOp = "permute_rows";
  CheckRows(kOp, args.x, args.y, args.position, {});
  LACUNA_CHECK(args.some || args.y.dim(0) <= args.position.numel(),
               "{}: routed rows {}, positions {}", kOp, Describe(args.y), Describe(args.position));
  (args.some ? kPermuteSomeRows : kPermuteRows)(args, stream);
}

void UnpermuteRows(const UnpermuteRowsArgs& args, Stream stream) {
  CheckRows("unpermute_rows", args.y, args.x, args.position, args.w);
  kUnpermuteRows(args, stream);
}

}  // namespace lacuna::ops
