// Documents' offsets for cuDNN: a block a length class, which goes over all documents, a thread a
// document, and counts those of its class before each: in the warp by ballot, between warps through
// shared memory. So a class's documents are found in their order, whatever the threads do. The
// transpose: 32 x 32 values at once, through
// shared memory, 32 x 8 threads, so that reads and writes are both of 32 neighbours; a column more
// than needed keeps the threads of a warp on different banks.
#include "core/cuda/launch.cuh"
#include "core/ops/cuda/attention_cudnn_layout.h"

namespace lacuna::cuda {
namespace {

constexpr int kScanThreads = 1024;
constexpr int kSide = 32, kThreadRows = 8;

// Of the offsets of a tensor, a multiple of 16 bytes, which cuDNN takes its pointers to have.
int64_t OffsetsBytes(int64_t documents) {
  return (documents + 2) / 2 * 16;
}

// A class as the kernel has it: its first layout, the others at distances of `run_bytes`.
struct ClassTask {
  RaggedLayout first;
  int64_t run_bytes, documents, slots;
  int32_t longer_than, at_most;
};
struct AllTasks {
  ClassTask of_class[kLengthClasses];
};

template <class T>
__device__ T* Of(T* first, int64_t bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(first) + bytes);
}

__device__ void SetSlot(const ClassTask& task, int64_t run, int64_t slot, int64_t row, int32_t rows,
                        const RowWidths& widths) {
  const int64_t bytes = run * task.run_bytes;
  Of(task.first.q, bytes)[slot] = row * widths.q;
  Of(task.first.k, bytes)[slot] = row * widths.k;
  Of(task.first.v, bytes)[slot] = row * widths.v;
  Of(task.first.o, bytes)[slot] = row * widths.o;
  Of(task.first.lse, bytes)[slot] = row * widths.lse;
  if (slot < task.slots) Of(task.first.lengths, bytes)[slot] = rows;
}

__global__ void __launch_bounds__(kScanThreads)
    LayoutsKernel(AllTasks tasks, const int32_t* cu, int64_t given, RowWidths widths) {
  constexpr int kWarps = kScanThreads / 32;
  __shared__ int of_warp[kWarps];
  const ClassTask& task = tasks.of_class[blockIdx.x];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  int64_t found = 0;  // of the class, before this pass
  for (int64_t first = 0; first < given; first += kScanThreads) {
    const int64_t d = first + thread;
    const int32_t row = d < given ? cu[d] : 0, rows = d < given ? cu[d + 1] - row : 0;
    const bool member = rows > task.longer_than && rows <= task.at_most;
    const unsigned members = __ballot_sync(~0u, member);
    if (lane == 0) of_warp[warp] = __popc(members);
    __syncthreads();
    int64_t rank = found + __popc(members & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) rank += of_warp[w];
      found += of_warp[w];
    }
    __syncthreads();
    if (!member || rank >= task.documents) continue;
    const int64_t run = rank / task.slots, slot = rank % task.slots;
    SetSlot(task, run, slot, row, rows, widths);
    if (rank + 1 < task.documents && slot + 1 < task.slots) continue;
    // The last of its run: empty slots, and what follows them.
    for (int64_t s = slot + 1; s <= task.slots; ++s)
      SetSlot(task, run, s, int64_t{row} + rows, 0, widths);
  }
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
  return 5 * OffsetsBytes(documents) + (documents + 3) / 4 * 16;
}

RaggedLayout::RaggedLayout(void* memory, int64_t documents) {
  auto* at = static_cast<char*>(memory);
  for (int64_t** offsets : {&q, &k, &v, &o, &lse}) {
    *offsets = reinterpret_cast<int64_t*>(at);
    at += OffsetsBytes(documents);
  }
  lengths = reinterpret_cast<int32_t*>(at);
}

void FillLayouts(const AllLayouts& layouts, const int32_t* cu, int64_t given,
                 const RowWidths& widths, Stream stream) {
  AllTasks tasks{};
  for (int i = 0; i < layouts.count; ++i) {
    const ClassLayouts& layout = layouts.of_class[i];
    tasks.of_class[i] = {.first = layout.Run(0),
                         .run_bytes = RaggedLayout::Bytes(layout.slots),
                         .documents = layout.documents,
                         .slots = layout.slots,
                         .longer_than = layout.longer_than,
                         .at_most = layout.at_most};
  }
  LaunchGrid(LayoutsKernel, dim3(static_cast<unsigned>(layouts.count)), dim3(kScanThreads), 0,
             stream, tasks, cu, given, widths);
}

void TransposeMatrix(const float* in, int64_t rows, int64_t columns, float* out, Stream stream) {
  LaunchGrid(TransposeKernel,
             dim3(static_cast<unsigned>((rows + kSide - 1) / kSide),
                  static_cast<unsigned>((columns + kSide - 1) / kSide)),
             dim3(kSide, kThreadRows), 0, stream, in, rows, columns, out);
}

}  // namespace lacuna::cuda
