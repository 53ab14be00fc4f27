// Embedding. Fwd: a block copies rows. Bwd: the rows of one token have to be added to dw in
// ascending order, whatever the timing: (id, row) is sorted by id, stably, and each run of equal ids
// is summed by one warp for each kColumns columns.
//
//   sorted ids   3 3 3 7 7 12 ...      warp (i, j) works where i starts a run, on columns
//   rows         0 4 9 2 5  1 ...      [kColumns j, kColumns j + kColumns)
//
// An id outside the table gives a row of NaN, which the step's check of the gradients reports.
#include <cub/device/device_radix_sort.cuh>

#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/vector.cuh"
#include "core/ops/embedding.h"

namespace lacuna::cuda {
namespace {

constexpr int kRowThreads = 128;

template <int kCount, class T>
__global__ void FwdKernel(const T* w, const int32_t* ids, T* y, int64_t rows, int64_t width,
                          int64_t vocabulary) {
  for (int64_t n = blockIdx.x; n < rows; n += gridDim.x) {
    const int64_t id = ids[n];
    const bool inside = id >= 0 && id < vocabulary;
    for (int64_t c = threadIdx.x * kCount; c < width; c += int64_t{kRowThreads} * kCount) {
      Pack<T, kCount> pack;
      if (inside) {
        pack = LoadPack<kCount>(w + id * width + c);
      } else {
        for (int k = 0; k < kCount; ++k) pack.value[k] = Store<T>(nanf(""));
      }
      StorePack(y + n * width + c, pack);
    }
  }
}

__global__ void NumberRows(int32_t* rows, int64_t n) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) rows[i] = static_cast<int32_t>(i);
}

template <int kCount, class T>
__global__ void BwdKernel(const int32_t* sorted_ids, const int32_t* sorted_rows, const T* dy,
                          float* dw, int64_t rows, int64_t width, int64_t vocabulary) {
  const int64_t i = int64_t{blockIdx.x} * (kRowThreads / kWarp) + threadIdx.x / kWarp;
  const int64_t c = (int64_t{blockIdx.y} * kWarp + threadIdx.x % kWarp) * kCount;
  if (i >= rows || c >= width) return;
  const int64_t id = sorted_ids[i];
  if (id < 0 || id >= vocabulary || (i > 0 && sorted_ids[i - 1] == id)) return;
  float sum[kCount];
  float* out = dw + id * width + c;
#pragma unroll
  for (int k = 0; k < kCount; ++k) sum[k] = out[k];
  for (int64_t r = i; r < rows && sorted_ids[r] == id; ++r) {
    const auto pack = LoadPack<kCount>(dy + sorted_rows[r] * width + c);
#pragma unroll
    for (int k = 0; k < kCount; ++k) sum[k] += Load(pack.value[k]);
  }
#pragma unroll
  for (int k = 0; k < kCount; ++k) out[k] = sum[k];
}

}  // namespace

void EmbeddingFwd(const EmbeddingFwdArgs& args, Stream stream) {
  const int64_t rows = args.ids.dim(0), width = args.w.dim(1);
  DispatchDeviceFloat(args.w.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.w.data, width) && IsAligned(args.y.data);
    const auto kernel = packs ? FwdKernel<kVector<T>, T> : FwdKernel<1, T>;
    LaunchGrid(kernel, dim3(static_cast<unsigned>(std::min<int64_t>(rows, 1 << 20))), kRowThreads,
               0, stream, args.w.As<const T>(), args.ids.As<const int32_t>(), args.y.As<T>(), rows,
               width, args.w.dim(0));
  });
}

void EmbeddingBwd(const EmbeddingBwdArgs& args, Stream stream) {
  const int64_t rows = args.ids.dim(0), width = args.dw.dim(1);
  if (rows == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  const Workspace lists(3 * rows * static_cast<int64_t>(sizeof(int32_t)), stream);
  int32_t *numbers = lists.As<int32_t>(), *sorted_ids = numbers + rows,
          *sorted_rows = sorted_ids + rows;
  Launch(NumberRows, rows, stream, numbers, rows);
  size_t bytes = 0;
  const auto sort = [&](void* scratch) {
    LACUNA_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(scratch, bytes, args.ids.As<const int32_t>(),
                                                      sorted_ids, numbers, sorted_rows,
                                                      static_cast<int>(rows), 0, 32, handle));
  };
  sort(nullptr);
  const Workspace scratch(static_cast<int64_t>(bytes), stream);
  sort(scratch.As<void>());
  DispatchDeviceFloat(args.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool packs = Packable<T>(args.dy.data, width);
    const int count = packs ? kVector<T> : 1, warps = kRowThreads / kWarp;
    const auto kernel = packs ? BwdKernel<kVector<T>, T> : BwdKernel<1, T>;
    LaunchGrid(kernel,
               dim3(static_cast<unsigned>((rows + warps - 1) / warps),
                    static_cast<unsigned>((width + kWarp * count - 1) / (kWarp * count))),
               kRowThreads, 0, stream, sorted_ids, sorted_rows, args.dy.As<const T>(),
               args.dw.As<float>(), rows, width, args.dw.dim(0));
  });
}

}  // namespace lacuna::cuda
