#include "core/ops/decode_attention.h"

#include "core/ops/cache_rows.h"
#include "core/ops/check.h"
#include "core/profile_range.h"

namespace lacuna::ops {

void DecodeAttention(const DecodeAttentionArgs& args, Stream stream) {
  constexpr const char* kOp = "decode_attention";
  const ProfileRange range(kOp);
  LACUNA_CHECK(args.q.rank == 3 && args.o.rank == 3, "{}: q {}, o {}", kOp, Describe(args.q),
               Describe(args.o));
  LACUNA_CHECK(args.groups > 0 && args.q.dim(1) % args.groups == 0, "{}: {} heads in {} groups",
               kOp, args.q.dim(1), args.groups);
  CheckShape(kOp, "o", args.o, {args.q.dim(0), args.q.dim(1), args.o.dim(2)});
  CheckDType(kOp, "o", args.o, args.q.dtype);
  CheckDecodeTables(kOp, args.tokens, args.addresses);
  LACUNA_CHECK(args.addresses.dim(1) >= args.k_column + 2, "{}: columns {} of {}", kOp,
               args.k_column, args.addresses.dim(1));
  if (args.tokens.dim(0) == 0) return;
  if (stream.device == kCpu) return cpu::DecodeAttention(args, stream);
#ifdef LACUNA_WITH_CUDA
  cuda::DecodeAttention(args, stream);
#endif
}

}  // namespace lacuna::ops
