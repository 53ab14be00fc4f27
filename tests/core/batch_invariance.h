// What ops::MatMul promises with batch_invariant, on any device.
#pragma once

#include <gtest/gtest.h>

#include "core/ops/matmul.h"
#include "core/stream.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace lacuna::test {

struct InvariantProduct {
  int64_t columns, inner;
  bool transpose_b;
};

// Rows have the bits that they have among 2044 whatever their number and place; and they are right.
inline void ExpectBatchInvariant(const InvariantProduct& p, DType dtype, DType output,
                                 Stream stream) {
  SCOPED_TRACE(std::to_string(p.columns) + " columns, inner " + std::to_string(p.inner) +
               (p.transpose_b ? ", b transposed, " : ", ") + NameOf(dtype) + " -> " +
               NameOf(output));
  const Tensor a = RandomTensor({2044, p.inner}, dtype, 1).To(stream.device),
               b = RandomTensor(
                       p.transpose_b ? Shape{p.columns, p.inner} : Shape{p.inner, p.columns}, dtype,
                       2)
                       .To(stream.device),
               before = RandomTensor({2044, p.columns}, output, 3).To(stream.device);
  const auto product = [&](int64_t begin, int64_t rows, double beta, bool batch_invariant) {
    // Copies, so that rows start at addresses of the same alignment.
    const Tensor part = a.Slice(begin, begin + rows).Clone();
    Tensor c = before.Slice(begin, begin + rows).Clone();
    ops::MatMul({.a = part.Ref(),
                 .b = b.Ref(),
                 .c = c.MutableRef(),
                 .transpose_b = p.transpose_b,
                 .alpha = 0.5,
                 .beta = beta,
                 .batch_invariant = batch_invariant},
                stream);
    return c.To(kCpu);
  };
  for (const double beta : {0.0, 1.0}) {
    const Tensor all = product(0, 2044, beta, true);
    EXPECT_TRUE(Close(all, product(0, 2044, beta, false),
                      Tolerance(output == DType::kF32 ? DType::kF32 : dtype)));
    for (const int64_t rows : {1, 7, 64, 130, 2043}) {
      for (const int64_t begin : {int64_t{0}, int64_t{1}, 2044 - rows}) {
        EXPECT_TRUE(SameBits(product(begin, rows, beta, true), all.Slice(begin, begin + rows)))
            << rows << " rows from " << begin << ", beta " << beta;
      }
    }
  }
}

}  // namespace lacuna::test
