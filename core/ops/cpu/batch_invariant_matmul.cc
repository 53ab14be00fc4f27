#include "core/ops/cpu/batch_invariant_matmul.h"

#include <algorithm>
#include <vector>

#include "core/cpu/small_gemm.h"
#include "core/cpu/widened.h"

namespace lacuna::cpu {
namespace {

// A piece of c is a thread's at a time; the slice of b that it multiplies stays in the cache.
constexpr int64_t kRows = 256, kColumns = 96, kDepth = 256;

// slice[p, j] = op(b)[first + p, begin + j], b of row length `line`.
template <class A>
void CopySlice(const A* b, bool transposed, int64_t line, int64_t first, int64_t depth,
               int64_t begin, int64_t columns, A* slice) {
  if (!transposed) {
    for (int64_t p = 0; p < depth; ++p)
      std::copy_n(b + (first + p) * line + begin, columns, slice + p * kColumns);
    return;
  }
  for (int64_t j = 0; j < columns; ++j) {
    const A* row = b + (begin + j) * line + first;
    for (int64_t p = 0; p < depth; ++p) slice[p * kColumns + j] = row[p];
  }
}

template <class T, class To>
void Product(const MatMulArgs& args) {
  using A = ComputeType<T>;
  const int64_t m = args.c.dim(0), n = args.c.dim(1), k = args.a.dim(1);
  const WidenedInput<T> a(args.a), b(args.b);
  const int64_t row_pieces = (m + kRows - 1) / kRows, column_pieces = (n + kColumns - 1) / kColumns;
  ParallelFor(row_pieces * column_pieces, std::min(m, kRows) * kColumns * k, [&](int64_t piece) {
    const int64_t row = piece % row_pieces * kRows, column = piece / row_pieces * kColumns,
                  rows = std::min(kRows, m - row), columns = std::min(kColumns, n - column);
    std::vector<A> sum(static_cast<size_t>(rows * kColumns), A(0)),
        slice(static_cast<size_t>(kDepth * kColumns), A(0));
    for (int64_t p = 0; p < k; p += kDepth) {
      const int64_t depth = std::min(kDepth, k - p);
      CopySlice(b.data(), args.transpose_b, args.b.dim(1), p, depth, column, columns, slice.data());
      // All columns of the slice, so that none of c's is the rest of a vector.
      SmallGemm<A>(rows, kColumns, depth, a.data() + row * k + p, k, 1, slice.data(), kColumns,
                   sum.data(), kColumns);
    }
    To* c = args.c.As<To>() + row * n + column;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        A value = static_cast<A>(args.alpha) * sum[static_cast<size_t>(i * kColumns + j)];
        if (args.beta != 0) value += static_cast<A>(args.beta) * Widen(c[i * n + j]);
        c[i * n + j] = Narrow<To>(value);
      }
    }
  });
}

}  // namespace

void BatchInvariantMatMul(const MatMulArgs& args) {
  DispatchFloat(args.a.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (args.c.dtype == args.a.dtype) return Product<T, T>(args);
    Product<T, ComputeType<T>>(args);
  });
}

}  // namespace lacuna::cpu
