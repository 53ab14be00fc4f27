// cublasLt: a handle and a workspace a device, and the plan of every product that was asked for.
#pragma once

#include <cublasLt.h>

#include <cstdint>

#include "core/device.h"

namespace lacuna::cuda {

[[noreturn]] void Fail(const char* file, int line, const char* call, cublasStatus_t status);

#define LACUNA_CUBLAS_CHECK(call)                                                \
  do {                                                                           \
    if (const cublasStatus_t status_ = (call); status_ != CUBLAS_STATUS_SUCCESS) \
      ::lacuna::cuda::Fail(__FILE__, __LINE__, #call, status_);                  \
  } while (false)

// c = alpha op(a) op(b) + beta added of row-major matrices, op(a): [rows, inner], op(b): [inner,
// columns]; sums in f32.
struct BlasProduct {
  const void *a, *b, *added;  // `added` may be c
  void* c;
  cudaDataType_t input, output;
  int64_t rows, columns, inner;
  bool transpose_a, transpose_b;
  bool batch_invariant = false;  // a is not transposed then
  float alpha, beta;
};

// The algorithm is cublasLt's first heuristic for the shape, types and alignments, kept for the
// next product like it: never one found by timing, which would differ from run to run.
// batch_invariant: it is chosen for one number of rows and used for all, and splits no sum. So every
// element of a row is summed in the same order of k, whichever tile of rows it is in.
void Multiply(const BlasProduct& product, Stream stream);

}  // namespace lacuna::cuda
