#include "core/ops/embedding.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<EmbeddingFwdArgs> kEmbeddingFwd{"embedding_fwd", cpu::EmbeddingFwd, nullptr};
constinit const Kernel<EmbeddingBwdArgs> kEmbeddingBwd{"embedding_bwd", cpu::EmbeddingBwd, nullptr};

}  // namespace

void EmbeddingFwd(const EmbeddingFwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.w.rank == 2 && args.ids.rank == 1, "embedding_fwd: w {}, ids {}",
               Describe(args.w), Describe(args.ids));
  CheckDType("embedding_fwd", "ids", args.ids, DType::kI32);
  CheckDType("embedding_fwd", "y", args.y, args.w.dtype);
  CheckShape("embedding_fwd", "y", args.y, {args.ids.dim(0), args.w.dim(1)});
  CheckDevice("embedding_fwd", stream, {args.w, args.ids, args.y});
  kEmbeddingFwd(args, stream);
}

void EmbeddingBwd(const EmbeddingBwdArgs& args, Stream stream) {
  LACUNA_CHECK(args.dw.rank == 2 && args.ids.rank == 1, "embedding_bwd: dw {}, ids {}",
               Describe(args.dw), Describe(args.ids));
  CheckDType("embedding_bwd", "ids", args.ids, DType::kI32);
  CheckDType("embedding_bwd", "dw", args.dw, AccumulationType(args.dy.dtype));
  CheckShape("embedding_bwd", "dy", args.dy, {args.ids.dim(0), args.dw.dim(1)});
  CheckDevice("embedding_bwd", stream, {args.ids, args.dy, args.dw});
  kEmbeddingBwd(args, stream);
}

}  // namespace lacuna::ops
