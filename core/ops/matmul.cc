#include "core/ops/matmul.h"

#include "core/kernel.h"
#include "core/ops/check.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<MatMulArgs> kMatMul{"matmul", "a b add +c", cpu::MatMul,
                                           LACUNA_IF_CUDA(cuda::MatMul)};

TensorRef AsMatrix(TensorRef x) {
  LACUNA_CHECK(x.rank >= 1, "matmul: an argument is undefined");
  const int64_t columns = x.dim(-1);
  int64_t rows = 1;
  for (int i = 0; i + 1 < x.rank; ++i) rows *= x.shape[i];
  x.rank = 2;
  x.shape[0] = rows;
  x.shape[1] = columns;
  return x;
}

}  // namespace

void MatMul(const MatMulArgs& args, Stream stream) {
  MatMulArgs m = args;
  m.a = AsMatrix(args.a);
  m.b = AsMatrix(args.b);
  m.c = AsMatrix(args.c);
  if (args.add.defined()) {
    LACUNA_CHECK(args.beta == 0, "matmul: both add and beta = {}", args.beta);
    m.add = AsMatrix(args.add);
    CheckShape("matmul", "add", m.add, {m.c.dim(0), m.c.dim(1)});
    CheckDType("matmul", "add", m.add, m.c.dtype);
  }
  const int64_t rows = m.transpose_a ? m.a.dim(1) : m.a.dim(0),
                inner_a = m.transpose_a ? m.a.dim(0) : m.a.dim(1);
  const int64_t inner_b = m.transpose_b ? m.b.dim(1) : m.b.dim(0),
                columns = m.transpose_b ? m.b.dim(0) : m.b.dim(1);
  LACUNA_CHECK(inner_a == inner_b && rows == m.c.dim(0) && columns == m.c.dim(1),
               "matmul: {}{} x {}{} does not give {}", Describe(m.a), m.transpose_a ? "^T" : "",
               Describe(m.b), m.transpose_b ? "^T" : "", Describe(m.c));
  LACUNA_CHECK(m.a.dtype == m.b.dtype && IsFloating(m.a.dtype) &&
                   (m.c.dtype == m.a.dtype || m.c.dtype == AccumulationType(m.a.dtype)),
               "matmul: dtypes {} x {} -> {}", NameOf(m.a.dtype), NameOf(m.b.dtype),
               NameOf(m.c.dtype));
  LACUNA_CHECK(!m.batch_invariant || !m.transpose_a,
               "matmul: batch_invariant needs the rows of c to be rows of a, which is transposed");
  kMatMul(m, stream);
}

}  // namespace lacuna::ops
