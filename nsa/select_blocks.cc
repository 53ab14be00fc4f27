#include "nsa/select_blocks.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<SelectBlocksArgs> kSelectBlocks{
    "select_blocks", "q k_cmp lse ranges positions cu_queries cu_keys ?blocks =scores =entropy",
    cpu::SelectBlocks, LACUNA_IF_CUDA(cuda::SelectBlocks)};

}  // namespace

void SelectBlocks(const SelectBlocksArgs& args, Stream stream) {
  constexpr const char* kOp = "select_blocks";
  LACUNA_CHECK(args.q.rank == 3 && args.k_cmp.rank == 3 && args.blocks.rank == 3,
               "{}: q {}, k_cmp {}, blocks {}", kOp, Describe(args.q), Describe(args.k_cmp),
               Describe(args.blocks));
  const int64_t n = args.q.dim(0), heads = args.q.dim(1), groups = args.k_cmp.dim(1);
  LACUNA_CHECK(groups > 0 && heads % groups == 0, "{}: {} heads in {} groups", kOp, heads, groups);
  LACUNA_CHECK(args.stride >= 1 && args.block % args.stride == 0 &&
                   args.select_block % args.stride == 0 && args.block <= args.select_block,
               "{}: block {}, stride {}, select_block {}", kOp, args.block, args.stride,
               args.select_block);
  LACUNA_CHECK(args.blocks.dim(2) >= args.num_init + args.num_local && args.num_local >= 1,
               "{}: {} places for {} + {} forced blocks", kOp, args.blocks.dim(2), args.num_init,
               args.num_local);
  CheckShape(kOp, "k_cmp", args.k_cmp, {args.k_cmp.dim(0), groups, args.q.dim(2)});
  CheckShape(kOp, "lse", args.lse, {n, heads});
  CheckShape(kOp, "ranges", args.ranges, {n, 2});
  CheckShape(kOp, "positions", args.positions, {n});
  CheckShape(kOp, "cu_keys", args.cu_keys, {args.cu_queries.dim(0)});
  CheckShape(kOp, "blocks", args.blocks, {n, groups, args.blocks.dim(2)});
  CheckDType(kOp, "k_cmp", args.k_cmp, args.q.dtype);
  CheckDType(kOp, "lse", args.lse, AccumulationType(args.q.dtype));
  for (const auto& [name, tensor] :
       {std::pair{"ranges", args.ranges}, {"positions", args.positions}, {"blocks", args.blocks}}) {
    CheckDType(kOp, name, tensor, DType::kI32);
  }
  if (args.scores.data != nullptr) {
    CheckShape(kOp, "scores", args.scores, {n, groups, args.scores.dim(2)});
    CheckDType(kOp, "scores", args.scores, AccumulationType(args.q.dtype));
  }
  if (args.entropy.data != nullptr) {
    CheckShape(kOp, "entropy", args.entropy, {n, groups});
    CheckDType(kOp, "entropy", args.entropy, AccumulationType(args.q.dtype));
  }
  kSelectBlocks(args, stream);
}

}  // namespace lacuna::ops
