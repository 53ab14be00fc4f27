#include "core/ops/embedding.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<EmbeddingFwdArgs> kEmbeddingFwd{
    "embedding_fwd", "w ids =y", cpu::EmbeddingFwd, LACUNA_IF_CUDA(cuda::EmbeddingFwd)};
constinit const Kernel<EmbeddingBwdArgs> kEmbeddingBwd{
    "embedding_bwd", "ids dy +dw", cpu::EmbeddingBwd, LACUNA_IF_CUDA(cuda::EmbeddingBwd)};

}  // namespace

void EmbeddingFwd(const EmbeddingFwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.w.rank == 2 && args.ids.rank == 1, "embedding_fwd: w {}, ids {}",
               Describe(args.w), Describe(args.ids));
  CheckDType("embedding_fwd", "ids", args.ids, DType::kI32);
  CheckDType("embedding_fwd", "y", args.y, args.w.dtype);
  CheckShape("embedding_fwd", "y", args.y, {args.ids.dim(0), args.w.dim(1)});
  kEmbeddingFwd(args, stream);
}

void EmbeddingBwd(const EmbeddingBwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.dw.rank == 2 && args.ids.rank == 1, "embedding_bwd: dw {}, ids {}",
               Describe(args.dw), Describe(args.ids));
  CheckDType("embedding_bwd", "ids", args.ids, DType::kI32);
  CheckDType("embedding_bwd", "dw", args.dw, AccumulationType(args.dy.dtype));
  CheckShape("embedding_bwd", "dy", args.dy, {args.ids.dim(0), args.dw.dim(1)});
  kEmbeddingBwd(args, stream);
}

}  // namespace lacuna::ops
