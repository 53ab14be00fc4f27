#include "nsa/block_gather.h"

#include "core/kernel.h"
#include "core/ops/check.h"
#include "nsa/nsa_grid.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GatherBlocksFwdArgs> kGatherBlocksFwd{
    "gather_blocks_fwd", "x pos =blocks cmp_tokens", cpu::GatherBlocksFwd,
    LACUNA_IF_CUDA(cuda::GatherBlocksFwd)};
constinit const Kernel<GatherBlocksBwdArgs> kGatherBlocksBwd{
    "gather_blocks_bwd", "dblocks =dx +dpos cmp_tokens token_blocks", cpu::GatherBlocksBwd,
    LACUNA_IF_CUDA(cuda::GatherBlocksBwd)};
constinit const Kernel<BlockMeanFwdArgs> kBlockMeanFwd{
    "block_mean_fwd", "x =y cmp_tokens", cpu::BlockMeanFwd, LACUNA_IF_CUDA(cuda::BlockMeanFwd)};
constinit const Kernel<BlockMeanBwdArgs> kBlockMeanBwd{
    "block_mean_bwd", "dy =dx token_blocks", cpu::BlockMeanBwd, LACUNA_IF_CUDA(cuda::BlockMeanBwd)};

// The tables of x [N, G, D] with `compressed` blocks, those that an operator takes; without tables
// the blocks are one document's.
void CheckTables(const char* op, const TensorRef& x, int64_t compressed,
                 const TensorRef* cmp_tokens, const TensorRef* token_blocks, int64_t block,
                 int64_t stride) {
  LACUNA_CHECK(x.rank == 3 && stride >= 1 && block >= stride, "{}: x {}, block {}, stride {}", op,
               Describe(x), block, stride);
  const auto check = [&](const char* name, const TensorRef& table,
                         std::initializer_list<int64_t> shape) {
    if (!table.defined()) {
      const int64_t expected = NumCompressed(x.dim(0), block, stride);
      LACUNA_CHECK(compressed == expected,
                   "{}: {} compressed rows without {}, one document of {} tokens has {}", op,
                   compressed, name, x.dim(0), expected);
      return;
    }
    CheckShape(op, name, table, shape);
    CheckDType(op, name, table, DType::kI32);
  };
  if (cmp_tokens != nullptr) check("cmp_tokens", *cmp_tokens, {compressed});
  if (token_blocks != nullptr) check("token_blocks", *token_blocks, {x.dim(0), 2});
}

// The number of compressed rows.
int64_t CheckGather(const char* op, const TensorRef& x, const TensorRef& pos,
                    const TensorRef& blocks, int64_t block) {
  LACUNA_CHECK(x.rank == 3 && blocks.rank == 2, "{}: x {}, blocks {}", op, Describe(x),
               Describe(blocks));
  const int64_t groups = x.dim(1), compressed = groups == 0 ? 0 : blocks.dim(0) / groups;
  CheckShape(op, "blocks", blocks, {compressed * groups, block * x.dim(2)});
  CheckDType(op, "blocks", blocks, x.dtype);
  if (pos.data != nullptr) CheckShape(op, "pos", pos, {block, x.dim(2)});
  return compressed;
}

void CheckMean(const char* op, const TensorRef& x, const TensorRef& y) {
  LACUNA_CHECK(x.rank == 3 && y.rank == 3, "{}: x {}, y {}", op, Describe(x), Describe(y));
  CheckShape(op, "y", y, {y.dim(0), x.dim(1), x.dim(2)});
  CheckDType(op, "y", y, x.dtype);
}

}  // namespace

void GatherBlocksFwd(const GatherBlocksFwdArgs& args, Stream stream) {
  const char* const op = "gather_blocks_fwd";
  const int64_t compressed = CheckGather(op, args.x, args.pos, args.blocks, args.block);
  CheckTables(op, args.x, compressed, &args.cmp_tokens, nullptr, args.block, args.stride);
  if (args.pos.data != nullptr) CheckDType(op, "pos", args.pos, args.x.dtype);
  kGatherBlocksFwd(args, stream);
}

void GatherBlocksBwd(const GatherBlocksBwdArgs& args, Stream stream) {
  const char* const op = "gather_blocks_bwd";
  const int64_t compressed = CheckGather(op, args.dx, args.dpos, args.dblocks, args.block);
  CheckTables(op, args.dx, compressed, &args.cmp_tokens, &args.token_blocks, args.block,
              args.stride);
  LACUNA_CHECK(args.cmp_tokens.defined() == args.token_blocks.defined(),
               "{}: one of cmp_tokens and token_blocks without the other", op);
  if (args.dpos.data != nullptr) CheckDType(op, "dpos", args.dpos, AccumulationType(args.dx.dtype));
  kGatherBlocksBwd(args, stream);
}

void BlockMeanFwd(const BlockMeanFwdArgs& args, Stream stream) {
  CheckMean("block_mean_fwd", args.x, args.y);
  CheckTables("block_mean_fwd", args.x, args.y.dim(0), &args.cmp_tokens, nullptr, args.block,
              args.stride);
  kBlockMeanFwd(args, stream);
}

void BlockMeanBwd(const BlockMeanBwdArgs& args, Stream stream) {
  CheckMean("block_mean_bwd", args.dx, args.dy);
  CheckTables("block_mean_bwd", args.dx, args.dy.dim(0), nullptr, &args.token_blocks, args.block,
              args.stride);
  kBlockMeanBwd(args, stream);
}

}  // namespace lacuna::ops
