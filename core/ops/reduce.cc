#include "core/ops/reduce.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<SumOfSquaresArgs> kSumOfSquares{
    "sum_of_squares", "x =result", cpu::SumOfSquares, LACUNA_IF_CUDA(cuda::SumOfSquares)};
}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream stream) {
  CheckShape("sum_of_squares", "result", args.result, {1});
  CheckDType("sum_of_squares", "result", args.result, DType::kF64);
  kSumOfSquares(args, stream);
}

}  // namespace lacuna::ops
