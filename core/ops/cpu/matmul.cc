// Matrix products through OpenBLAS. bf16 operands are widened to f32 first: products of bf16
// numbers are exact in f32.
#include "core/ops/matmul.h"

#include <cblas.h>

#include <cstring>
#include <vector>

#include "core/dispatch.h"
#include "core/ops/cpu/batch_invariant_matmul.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

void Gemm(const MatMulArgs& args, int64_t m, int64_t n, int64_t k, const float* a, const float* b,
          float* c) {
  cblas_sgemm(CblasRowMajor, args.transpose_a ? CblasTrans : CblasNoTrans,
              args.transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m),
              static_cast<int>(n), static_cast<int>(k), static_cast<float>(args.alpha), a,
              static_cast<int>(args.a.dim(1)), b, static_cast<int>(args.b.dim(1)),
              static_cast<float>(args.beta), c, static_cast<int>(n));
}

void Gemm(const MatMulArgs& args, int64_t m, int64_t n, int64_t k, const double* a, const double* b,
          double* c) {
  cblas_dgemm(CblasRowMajor, args.transpose_a ? CblasTrans : CblasNoTrans,
              args.transpose_b ? CblasTrans : CblasNoTrans, static_cast<int>(m),
              static_cast<int>(n), static_cast<int>(k), args.alpha, a,
              static_cast<int>(args.a.dim(1)), b, static_cast<int>(args.b.dim(1)), args.beta, c,
              static_cast<int>(n));
}

std::vector<float> WidenAll(const TensorRef& x) {
  std::vector<float> wide(static_cast<size_t>(x.numel()));
  const BFloat16* source = x.As<BFloat16>();
  ParallelForChunks(x.numel(), 65536, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      wide[static_cast<size_t>(i)] = static_cast<float>(source[i]);
  });
  return wide;
}

void BFloat16MatMul(const MatMulArgs& args, int64_t m, int64_t n, int64_t k) {
  const std::vector<float> a = WidenAll(args.a), b = WidenAll(args.b);
  if (args.c.dtype == DType::kF32)
    return Gemm(args, m, n, k, a.data(), b.data(), args.c.As<float>());
  std::vector<float> c(static_cast<size_t>(m * n));
  if (args.beta != 0) c = WidenAll(args.c);
  Gemm(args, m, n, k, a.data(), b.data(), c.data());
  BFloat16* out = args.c.As<BFloat16>();
  ParallelForChunks(m * n, 65536, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = BFloat16(c[static_cast<size_t>(i)]);
  });
}

// BLAS leaves c alone where it has nothing to sum; the contract is beta * c.
template <class T>
void ScaleOnly(const TensorRef& c, double beta) {
  T* out = c.As<T>();
  for (int64_t i = 0; i < c.numel(); ++i) {
    out[i] = beta == 0 ? Narrow<T>(0.0) : Narrow<T>(beta * static_cast<double>(Widen(out[i])));
  }
}

}  // namespace

void MatMul(const MatMulArgs& given, Stream) {
  MatMulArgs args = given;
  if (args.add.defined()) {
    // BLAS adds to what is in c.
    if (args.add.data != args.c.data) {
      std::memcpy(args.c.data, args.add.data,
                  static_cast<size_t>(args.c.numel() * SizeOf(args.c.dtype)));
    }
    args.beta = 1;
  }
  const int64_t m = args.c.dim(0), n = args.c.dim(1),
                k = args.transpose_a ? args.a.dim(0) : args.a.dim(1);
  if (m == 0 || n == 0) return;
  if (k == 0) {
    DispatchFloat(args.c.dtype,
                  [&](auto tag) { ScaleOnly<typename decltype(tag)::type>(args.c, args.beta); });
    return;
  }
  if (args.batch_invariant) return BatchInvariantMatMul(args);
  switch (args.a.dtype) {
    case DType::kF32:
      return Gemm(args, m, n, k, args.a.As<float>(), args.b.As<float>(), args.c.As<float>());
    case DType::kF64:
      return Gemm(args, m, n, k, args.a.As<double>(), args.b.As<double>(), args.c.As<double>());
    default:
      return BFloat16MatMul(args, m, n, k);
  }
}

}  // namespace lacuna::cpu
