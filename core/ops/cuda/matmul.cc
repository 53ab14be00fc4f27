#include "core/ops/matmul.h"

#include "core/cuda/blas.h"
#include "core/cuda/memory.h"
#include "core/error.h"
#include "core/ops/elementwise.h"

namespace lacuna::cuda {
namespace {

cudaDataType_t TypeOf(DType dtype) {
  LACUNA_CHECK(dtype == DType::kF32 || dtype == DType::kBF16,
               "matmul: no CUDA kernel for {}; f32 and bf16 are supported", NameOf(dtype));
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace

void MatMul(const MatMulArgs& args, Stream stream) {
  const int64_t rows = args.c.dim(0), columns = args.c.dim(1),
                inner = args.transpose_a ? args.a.dim(0) : args.a.dim(1);
  if (rows == 0 || columns == 0) return;
  if (inner == 0) {
    if (args.add.defined()) {
      return CopyOnDevice(args.c.data, args.add.data, args.c.numel() * SizeOf(args.c.dtype),
                          stream);
    }
    LACUNA_CHECK(args.beta == 0 || args.beta == 1,
                 "matmul: an empty sum with beta = {} has no CUDA kernel", args.beta);
    if (args.beta == 0) Fill({.y = args.c, .value = 0}, stream);
    return;
  }
  Multiply({.a = args.a.data,
            .b = args.b.data,
            .added = args.add.defined() ? args.add.data : args.c.data,
            .c = args.c.data,
            .input = TypeOf(args.a.dtype),
            .output = TypeOf(args.c.dtype),
            .rows = rows,
            .columns = columns,
            .inner = inner,
            .transpose_a = args.transpose_a,
            .transpose_b = args.transpose_b,
            .batch_invariant = args.batch_invariant,
            .alpha = static_cast<float>(args.alpha),
            .beta = args.add.defined() ? 1.0f : static_cast<float>(args.beta)},
           stream);
}

}  // namespace lacuna::cuda
