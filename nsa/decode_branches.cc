#include "nsa/decode_branches.h"

#include "core/ops/cache_rows.h"
#include "core/ops/check.h"
#include "core/profile_range.h"

namespace lacuna::ops {

void DecodeBranches(const DecodeBranchesArgs& args, Stream stream) {
  constexpr const char* kOp = "decode_branches";
  const ProfileRange range(kOp);
  LACUNA_CHECK(args.q.rank == 3 && args.o.rank == 3 && args.blocks.rank == 3,
               "{}: q {}, o {}, blocks {}", kOp, Describe(args.q), Describe(args.o),
               Describe(args.blocks));
  const int64_t n = args.q.dim(0), heads = args.q.dim(1);
  LACUNA_CHECK(args.groups > 0 && heads % args.groups == 0, "{}: {} heads in {} groups", kOp, heads,
               args.groups);
  LACUNA_CHECK(args.stride >= 1 && args.block % args.stride == 0 &&
                   args.select_block % args.stride == 0 && args.block <= args.select_block,
               "{}: block {}, stride {}, select_block {}", kOp, args.block, args.stride,
               args.select_block);
  LACUNA_CHECK(args.blocks.dim(2) >= args.num_init + args.num_local && args.num_local >= 1,
               "{}: {} places for {} + {} forced blocks", kOp, args.blocks.dim(2), args.num_init,
               args.num_local);
  CheckShape(kOp, "gate", args.gate, {n, heads, 3});
  CheckShape(kOp, "o", args.o, {n, heads, args.o.dim(2)});
  CheckShape(kOp, "blocks", args.blocks, {args.tokens.dim(0), args.groups, args.blocks.dim(2)});
  CheckDType(kOp, "gate", args.gate, AccumulationType(args.q.dtype));
  CheckDType(kOp, "o", args.o, args.q.dtype);
  CheckDType(kOp, "blocks", args.blocks, DType::kI32);
  CheckDecodeTables(kOp, args.tokens, args.addresses);
  LACUNA_CHECK(args.addresses.dim(1) == kNumCacheColumns, "{}: {} columns", kOp,
               args.addresses.dim(1));
  if (args.tokens.dim(0) == 0) return;
  if (stream.device == kCpu) return cpu::DecodeBranches(args, stream);
#ifdef LACUNA_WITH_CUDA
  cuda::DecodeBranches(args, stream);
#endif
}

}  // namespace lacuna::ops
