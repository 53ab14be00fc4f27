#include "core/ops/reduce.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<SumOfSquaresArgs> kSumOfSquares{
    "sum_of_squares", "x =result", cpu::SumOfSquares, LACUNA_IF_CUDA(cuda::SumOfSquares)};
constinit const Kernel<SumArgs> kSum{"sum", "x =result", cpu::Sum, LACUNA_IF_CUDA(cuda::Sum)};
constinit const Kernel<SumPartsArgs> kSumParts{"sum_parts", "x =y", cpu::SumParts,
                                               LACUNA_IF_CUDA(cuda::SumParts)};
constinit const Kernel<ClipFactorArgs> kClipFactor{
    "clip_factor", "squares loss =factor", cpu::ClipFactor, LACUNA_IF_CUDA(cuda::ClipFactor)};

}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream stream) {
  CheckShape("sum_of_squares", "result", args.result, {1});
  CheckDType("sum_of_squares", "result", args.result, DType::kF64);
  kSumOfSquares(args, stream);
}

void Sum(const SumArgs& args, Stream stream) {
  CheckShape("sum", "result", args.result, {1});
  CheckDType("sum", "result", args.result, AccumulationType(args.x.dtype));
  kSum(args, stream);
}

void SumParts(const SumPartsArgs& args, Stream stream) {
  LACUNA_CHECK(args.x.rank == 2 && args.x.dim(0) >= 1, "sum_parts: x {}", Describe(args.x));
  CheckShape("sum_parts", "y", args.y, {args.x.dim(1)});
  CheckDType("sum_parts", "y", args.y, args.x.dtype);
  kSumParts(args, stream);
}

void ClipFactor(const ClipFactorArgs& args, Stream stream) {
  constexpr const char* kOp = "clip_factor";
  CheckShape(kOp, "squares", args.squares, {args.squares.numel()});
  CheckShape(kOp, "loss", args.loss, {1});
  CheckShape(kOp, "factor", args.factor, {1});
  CheckDType(kOp, "squares", args.squares, DType::kF64);
  CheckDType(kOp, "loss", args.loss, AccumulationType(args.loss.dtype));
  CheckDType(kOp, "factor", args.factor, DType::kF64);
  LACUNA_CHECK(args.clip_norm >= 0, "{}: clip_norm {}", kOp, args.clip_norm);
  kClipFactor(args, stream);
}

}  // namespace lacuna::ops
