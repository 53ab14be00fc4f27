#include "nsa/nsa_statistics.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {
constinit const Kernel<NsaStatisticsArgs> kNsaStatistics{
    "nsa_statistics", "gate entropy blocks positions =sums", cpu::NsaStatistics,
    LACUNA_IF_CUDA(cuda::NsaStatistics)};
}  // namespace

void NsaStatistics(const NsaStatisticsArgs& args, Stream stream) {
  constexpr const char* kOp = "nsa_statistics";
  LACUNA_CHECK(args.gate.rank == 3 && args.blocks.rank == 3, "{}: gate {}, blocks {}", kOp,
               Describe(args.gate), Describe(args.blocks));
  const int64_t n = args.gate.dim(0), groups = args.blocks.dim(1);
  CheckShape(kOp, "gate", args.gate, {n, args.gate.dim(1), 3});
  CheckShape(kOp, "entropy", args.entropy, {n, groups});
  CheckShape(kOp, "blocks", args.blocks, {n, groups, args.blocks.dim(2)});
  CheckShape(kOp, "positions", args.positions, {n});
  CheckShape(kOp, "sums", args.sums, {kNumNsaStatistics});
  CheckDType(kOp, "entropy", args.entropy, args.gate.dtype);
  CheckDType(kOp, "blocks", args.blocks, DType::kI32);
  CheckDType(kOp, "positions", args.positions, DType::kI32);
  CheckDType(kOp, "sums", args.sums, DType::kF64);
  kNsaStatistics(args, stream);
}

}  // namespace lacuna::ops
