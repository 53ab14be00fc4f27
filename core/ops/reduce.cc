#include "core/ops/reduce.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<SumOfSquaresArgs> kSumOfSquares{"sum_of_squares", cpu::SumOfSquares,
                                                       nullptr};
}  // namespace

void SumOfSquares(const SumOfSquaresArgs& args, Stream stream) {
  CheckDevice("sum_of_squares", stream, {args.x});
  kSumOfSquares(args, stream);
}

}  // namespace lacuna::ops
