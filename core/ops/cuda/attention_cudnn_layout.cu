// Documents' offsets for cuDNN: a thread a document. The transpose: 32 x 32 values at once, through
// shared memory, 32 x 8 threads, so that reads and writes are both of 32 neighbours; a column more
// than needed keeps the threads of a warp on different banks.
#include "core/cuda/launch.cuh"
#include "core/ops/cuda/attention_cudnn_layout.h"

namespace lacuna::cuda {
namespace {

constexpr int kSide = 32, kThreadRows = 8;

// Of the offsets of a tensor, a multiple of 16 bytes, which cuDNN takes its pointers to have.
int64_t OffsetsBytes(int64_t documents) {
  return (documents + 2) / 2 * 16;
}

__global__ void RaggedLayoutKernel(RaggedLayout out, const int32_t* cu, int64_t given,
                                   int64_t documents, RowWidths widths) {
  const int64_t d = GlobalIndex();
  if (d > documents) return;
  const int64_t row = cu[min(d, given)];
  out.q[d] = row * widths.q;
  out.k[d] = row * widths.k;
  out.v[d] = row * widths.v;
  out.o[d] = row * widths.o;
  out.lse[d] = row * widths.lse;
  if (d < documents) out.lengths[d] = d < given ? static_cast<int32_t>(cu[d + 1] - row) : 0;
}

__global__ void __launch_bounds__(kSide* kThreadRows)
    TransposeKernel(const float* in, int64_t rows, int64_t columns, float* out) {
  __shared__ float tile[kSide][kSide + 1];
  const int64_t row = int64_t{blockIdx.x} * kSide, column = int64_t{blockIdx.y} * kSide;
  for (int i = static_cast<int>(threadIdx.y); i < kSide; i += kThreadRows) {
    if (row + i < rows && column + threadIdx.x < columns)
      tile[i][threadIdx.x] = in[(row + i) * columns + column + threadIdx.x];
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.y); i < kSide; i += kThreadRows) {
    if (column + i < columns && row + threadIdx.x < rows)
      out[(column + i) * rows + row + threadIdx.x] = tile[threadIdx.x][i];
  }
}

}  // namespace

int64_t RaggedLayout::Bytes(int64_t documents) {
  return 5 * OffsetsBytes(documents) + documents * static_cast<int64_t>(sizeof(int32_t));
}

RaggedLayout::RaggedLayout(void* memory, int64_t documents) {
  auto* at = static_cast<char*>(memory);
  for (int64_t** offsets : {&q, &k, &v, &o, &lse}) {
    *offsets = reinterpret_cast<int64_t*>(at);
    at += OffsetsBytes(documents);
  }
  lengths = reinterpret_cast<int32_t*>(at);
}

void FillRaggedLayout(const RaggedLayout& layout, const int32_t* cu, int64_t given,
                      int64_t documents, const RowWidths& widths, Stream stream) {
  Launch(RaggedLayoutKernel, documents + 1, stream, layout, cu, given, documents, widths);
}

void TransposeMatrix(const float* in, int64_t rows, int64_t columns, float* out, Stream stream) {
  LaunchGrid(TransposeKernel,
             dim3(static_cast<unsigned>((rows + kSide - 1) / kSide),
                  static_cast<unsigned>((columns + kSide - 1) / kSide)),
             dim3(kSide, kThreadRows), 0, stream, in, rows, columns, out);
}

}  // namespace lacuna::cuda
