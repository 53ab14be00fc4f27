#include "core/ops/cache_rows.h"

#include <algorithm>

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {

// No kernel tables here: an observer could not follow addresses to another device.

void CheckDecodeTables(const char* op, const TensorRef& tokens, const TensorRef& addresses) {
  CheckShape(op, "tokens", tokens, {tokens.dim(0), 4});
  CheckDType(op, "tokens", tokens, DType::kI32);
  CheckShape(op, "addresses", addresses, {addresses.dim(0), addresses.dim(1)});
  CheckDType(op, "addresses", addresses, DType::kI64);
}

void AppendRows(const TensorRef& tokens, const TensorRef& addresses, const TensorRef& cos,
                const TensorRef& sin, std::initializer_list<CacheRows> parts, Stream stream) {
  constexpr const char* kOp = "append_rows";
  const ProfileRange range(kOp);
  CheckDecodeTables(kOp, tokens, addresses);
  LACUNA_CHECK(parts.size() <= kMaxCacheRows, "{}: {} parts", kOp, parts.size());
  AppendRowsArgs args{.tokens = tokens,
                      .addresses = addresses,
                      .cos = cos,
                      .sin = sin,
                      .parts = {},
                      .num_parts = static_cast<int>(parts.size())};
  for (const CacheRows& part : parts) {
    LACUNA_CHECK(part.x.rank == 3 && part.x.dtype == parts.begin()->x.dtype, "{}: x {}", kOp,
                 Describe(part.x));
    if (part.y.defined())
      CheckShape(kOp, "y", part.y, {part.x.dim(0), part.x.dim(1), part.x.dim(2)});
    LACUNA_CHECK(part.column < addresses.dim(1) && part.stride >= 1 && part.ring >= 1,
                 "{}: column {} of {}", kOp, part.column, addresses.dim(1));
    if (part.rotate) {
      CheckDType(kOp, "cos", cos, AccumulationType(part.x.dtype));
      LACUNA_CHECK(2 * cos.dim(1) <= part.x.dim(2), "{}: {} rotary dims in heads of {}", kOp,
                   2 * cos.dim(1), part.x.dim(2));
    }
  }
  std::copy(parts.begin(), parts.end(), args.parts);
  if (stream.device == kCpu) return cpu::AppendRows(args, stream);
#ifdef LACUNA_WITH_CUDA
  cuda::AppendRows(args, stream);
#endif
}

void RecentRows(const RecentRowsArgs& args, Stream stream) {
  constexpr const char* kOp = "recent_rows";
  const ProfileRange range(kOp);
  CheckDecodeTables(kOp, args.tokens, args.addresses);
  CheckShape(kOp, "y", args.y, {args.tokens.dim(0) * args.count, args.y.dim(1), args.y.dim(2)});
  if (stream.device == kCpu) return cpu::RecentRows(args, stream);
#ifdef LACUNA_WITH_CUDA
  cuda::RecentRows(args, stream);
#endif
}

}  // namespace lacuna::ops
