#include "nsa/block_gather.h"

#include "core/kernel.h"
#include "core/ops/check.h"
#include "nsa/nsa_grid.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<GatherBlocksFwdArgs> kGatherBlocksFwd{"gather_blocks_fwd", "x pos =blocks",
                                                             cpu::GatherBlocksFwd,
                                                             LACUNA_IF_CUDA(cuda::GatherBlocksFwd)};
constinit const Kernel<GatherBlocksBwdArgs> kGatherBlocksBwd{
    "gather_blocks_bwd", "dblocks =dx +dpos", cpu::GatherBlocksBwd,
    LACUNA_IF_CUDA(cuda::GatherBlocksBwd)};
constinit const Kernel<BlockMeanFwdArgs> kBlockMeanFwd{"block_mean_fwd", "x =y", cpu::BlockMeanFwd,
                                                       LACUNA_IF_CUDA(cuda::BlockMeanFwd)};
constinit const Kernel<BlockMeanBwdArgs> kBlockMeanBwd{
    "block_mean_bwd", "dy =dx", cpu::BlockMeanBwd, LACUNA_IF_CUDA(cuda::BlockMeanBwd)};

void CheckGather(const char* op, const TensorRef& x, const TensorRef& pos, const TensorRef& blocks,
                 int64_t block, int64_t stride) {
  LACUNA_CHECK(x.rank == 3 && stride >= 1 && block >= stride, "{}: x {}, block {}, stride {}", op,
               Describe(x), block, stride);
  CheckShape(op, "blocks", blocks,
             {NumCompressed(x.dim(0), block, stride) * x.dim(1), block * x.dim(2)});
  CheckDType(op, "blocks", blocks, x.dtype);
  if (pos.data != nullptr) CheckShape(op, "pos", pos, {block, x.dim(2)});
}

void CheckMean(const char* op, const TensorRef& x, const TensorRef& y, int64_t block,
               int64_t stride) {
  LACUNA_CHECK(x.rank == 3 && stride >= 1 && block >= stride, "{}: x {}, block {}, stride {}", op,
               Describe(x), block, stride);
  CheckShape(op, "y", y, {NumCompressed(x.dim(0), block, stride), x.dim(1), x.dim(2)});
  CheckDType(op, "y", y, x.dtype);
}

}  // namespace

void GatherBlocksFwd(const GatherBlocksFwdArgs& args, Stream stream) {
  CheckGather("gather_blocks_fwd", args.x, args.pos, args.blocks, args.block, args.stride);
  if (args.pos.data != nullptr) CheckDType("gather_blocks_fwd", "pos", args.pos, args.x.dtype);
  kGatherBlocksFwd(args, stream);
}

void GatherBlocksBwd(const GatherBlocksBwdArgs& args, Stream stream) {
  CheckGather("gather_blocks_bwd", args.dx, args.dpos, args.dblocks, args.block, args.stride);
  if (args.dpos.data != nullptr)
    CheckDType("gather_blocks_bwd", "dpos", args.dpos, AccumulationType(args.dx.dtype));
  kGatherBlocksBwd(args, stream);
}

void BlockMeanFwd(const BlockMeanFwdArgs& args, Stream stream) {
  CheckMean("block_mean_fwd", args.x, args.y, args.block, args.stride);
  kBlockMeanFwd(args, stream);
}

void BlockMeanBwd(const BlockMeanBwdArgs& args, Stream stream) {
  CheckMean("block_mean_bwd", args.dx, args.dy, args.block, args.stride);
  kBlockMeanBwd(args, stream);
}

}  // namespace lacuna::ops
