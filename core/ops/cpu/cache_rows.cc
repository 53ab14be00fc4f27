#include "core/ops/cache_rows.h"

#include <cstring>

#include "core/error.h"
#include "core/ops/rope.h"

namespace lacuna::cpu {
namespace {

// Row `row` of x [N, ...] as a tensor of one row.
TensorRef RowOf(TensorRef x, int64_t row) {
  x.shape[0] = 1;
  x.data = x.As<char>() + row * x.numel() * SizeOf(x.dtype);
  return x;
}

}  // namespace

void AppendRows(const AppendRowsArgs& args, Stream stream) {
  const int32_t* tokens = args.tokens.As<int32_t>();
  const int64_t columns = args.addresses.dim(1);
  for (int64_t b = 0; b < args.tokens.dim(0); ++b, tokens += 4) {
    for (int i = 0; i < args.num_parts; ++i) {
      const CacheRows& part = args.parts[i];
      const TensorRef x = RowOf(part.x, tokens[0]);
      TensorRef y = x;
      if (part.y.defined()) {
        y = RowOf(part.y, tokens[0]);
      } else {
        const int64_t row = (tokens[1] - part.first) / part.stride % part.ring;
        y.data = reinterpret_cast<void*>(
            args.addresses.As<int64_t>()[tokens[2] * columns + part.column]);
        y = RowOf(y, row);
      }
      if (part.rotate) {
        TensorRef position = RowOf(args.tokens, b);
        position.rank = 1;
        position.data = position.As<int32_t>() + 1;
        Rope({.x = x, .positions = position, .cos = args.cos, .sin = args.sin, .y = y}, stream);
      } else {
        std::memcpy(y.data, x.data, static_cast<size_t>(x.numel() * SizeOf(x.dtype)));
      }
    }
  }
}

void RecentRows(const RecentRowsArgs& args, Stream) {
  const int32_t* tokens = args.tokens.As<int32_t>();
  const int64_t columns = args.addresses.dim(1),
                bytes = args.y.dim(1) * args.y.dim(2) * SizeOf(args.y.dtype);
  char* out = args.y.As<char>();
  for (int64_t j = 0; j < args.tokens.dim(0); ++j, tokens += 4) {
    LACUNA_CHECK(tokens[1] >= args.count - 1, "recent_rows: {} rows at position {}", args.count,
                 tokens[1]);
    const char* ring = reinterpret_cast<const char*>(
        args.addresses.As<int64_t>()[tokens[2] * columns + args.column]);
    for (int64_t u = 0; u < args.count; ++u, out += bytes)
      std::memcpy(out, ring + (tokens[1] + 1 + u) % args.count * bytes, static_cast<size_t>(bytes));
  }
}

}  // namespace lacuna::cpu
