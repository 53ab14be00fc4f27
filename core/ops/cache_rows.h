// Rows of decode caches. A step's tokens are a table, and so is where their sequences keep their rows:
//   tokens     [B, 4] i32: row n of the token in x, its position t, the sequence's row in `addresses`, 0
//   addresses  [S, columns] i64: of tensors [rows, heads, D] of x's type on the stream's device
// A token has row ((t - first) / stride) mod ring of such a tensor.
//
// AppendRows: row n of x, rotated by t where asked for (core/ops/rope.h), to its place in the caches
// or, where y is given, to row n of y. RecentRows: the last `count` rows up to t of rings of `count`,
// y[j count + u] = cache row (t - count + 1 + u) mod count of token j, t >= count - 1.
// Who keeps the tensors behind `addresses` keeps them until the stream is done with them.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/tensor_ref.h"

namespace lacuna {

struct CacheRows {
  TensorRef x;       // [N, heads, D]
  TensorRef y = {};  // like x; then there is no column
  int column = 0;    // of `addresses`
  bool rotate = false;
  int64_t first = 0, stride = 1, ring = int64_t{1} << 40;
};
inline constexpr int kMaxCacheRows = 8;

struct AppendRowsArgs {
  TensorRef tokens, addresses, cos, sin;  // cos, sin: [P, R/2], where a part is rotated
  CacheRows parts[kMaxCacheRows];
  int num_parts;
};
struct RecentRowsArgs {
  TensorRef tokens, addresses, y;  // y: [B count, heads, D]
  int column;
  int64_t count;
};

namespace cpu {
void AppendRows(const AppendRowsArgs&, Stream);
void RecentRows(const RecentRowsArgs&, Stream);
}  // namespace cpu
namespace cuda {
void AppendRows(const AppendRowsArgs&, Stream);
void RecentRows(const RecentRowsArgs&, Stream);
}  // namespace cuda
namespace ops {
void AppendRows(const TensorRef& tokens, const TensorRef& addresses, const TensorRef& cos,
                const TensorRef& sin, std::initializer_list<CacheRows> parts, Stream);
void RecentRows(const RecentRowsArgs&, Stream);
// That `tokens` and `addresses` are tables as above.
void CheckDecodeTables(const char* op, const TensorRef& tokens, const TensorRef& addresses);
}  // namespace ops

}  // namespace lacuna
