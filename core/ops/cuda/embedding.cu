// Embedding. Fwd: a block copies rows. Bwd: the rows of one token have to be added to dw in an order
// that timing does not change: (id, row) is sorted by id, stably, and cut into windows of kWindow.
// A warp takes a window and a pack of columns a lane, so all warps have the same work, whatever
// token is in every second place of a text:
//
//   sorted ids   3 3 3 7 | 7 7 7 7 | 7 9 9 9      a run within a window: added to dw at once
//   rows         0 4 9 1   2 3 5 6   8 7 ...      a run over several: a sum for each window
//                      a   --b----   c            (`heads` b, c; `tails` a), which a second
//                                                 kernel adds up, a warp a run: dw += a + b + c
//
// Ids outside the table are sorted to the end and left alone.
// An id outside the table gives a row of NaN, which the step's check of the gradients reports.
#include <bit>
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

// (key, row) of each row; the key of an id outside the table is `vocabulary`.
__global__ void KeysOfRows(const int32_t* ids, int32_t* keys, int32_t* rows, int64_t n,
                           int32_t vocabulary) {
  for (int64_t i = GlobalIndex(); i < n; i += GridSize()) {
    keys[i] = ids[i] >= 0 && ids[i] < vocabulary ? ids[i] : vocabulary;
    rows[i] = static_cast<int32_t>(i);
  }
}

constexpr int kWindow = 32, kTogether = 4;

struct Runs {
  const int32_t *keys, *rows;  // sorted
  int64_t n;
  int32_t vocabulary;

  // Whether place i and the one before it are of one run.
  __device__ bool Joined(int64_t i) const { return i > 0 && i < n && keys[i] == keys[i - 1]; }
};

template <int kCount>
__device__ void AddTo(float* dw, const Floats<kCount>& sum) {
  Floats<kCount> out = LoadFloats<kCount>(dw);
#pragma unroll
  for (int k = 0; k < kCount; ++k) out.value[k] += sum.value[k];
  StoreFloats(dw, out);
}

// heads, tails: [windows, width], a window's part of the run that it shares with the window before
// it (or with both neighbours) and of the one that it shares with the next alone.
template <int kCount, class T>
__global__ void __launch_bounds__(kRowThreads)
    SumWindows(Runs runs, const T* __restrict__ dy, float* dw, float* heads, float* tails,
               int64_t width) {
  const int64_t window = int64_t{blockIdx.x} * (kRowThreads / kWarp) + threadIdx.x / kWarp,
                c = (int64_t{blockIdx.y} * kWarp + threadIdx.x % kWarp) * kCount,
                begin = window * kWindow, end = min(begin + kWindow, runs.n);
  if (begin >= end || c >= width) return;
  Floats<kCount> sum{};
  bool from_before = runs.Joined(begin);
  for (int64_t first = begin; first < end; first += kTogether) {
    Pack<T, kCount> packs[kTogether];
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      if (first + u < end) packs[u] = LoadPack<kCount>(dy + runs.rows[first + u] * width + c);
    }
#pragma unroll
    for (int u = 0; u < kTogether; ++u) {
      const int64_t i = first + u;
      if (i >= end) break;
      const auto row = Widen(packs[u]);
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum.value[k] += row.value[k];
      const bool goes_on = runs.Joined(i + 1);
      if (goes_on && i + 1 < end) continue;
      if (from_before || goes_on) {
        StoreFloats((from_before ? heads : tails) + window * width + c, sum);
      } else if (runs.keys[i] < runs.vocabulary) {
        AddTo(dw + runs.keys[i] * width + c, sum);
      }
      from_before = false;
      sum = {};
    }
  }
}

// A warp for each window that a run of several starts in.
template <int kCount>
__global__ void __launch_bounds__(kRowThreads)
    SumRuns(Runs runs, const float* __restrict__ heads, const float* __restrict__ tails, float* dw,
            int64_t width) {
  const int64_t window = int64_t{blockIdx.x} * (kRowThreads / kWarp) + threadIdx.x / kWarp,
                c = (int64_t{blockIdx.y} * kWarp + threadIdx.x % kWarp) * kCount,
                last = (window + 1) * kWindow - 1;
  if (c >= width || !runs.Joined(last + 1)) return;
  const int32_t key = runs.keys[last];
  const bool starts_here = runs.keys[window * kWindow] != key || !runs.Joined(window * kWindow);
  if (key >= runs.vocabulary || !starts_here) return;
  Floats<kCount> sum = LoadFloats<kCount>(tails + window * width + c);
#pragma unroll 8
  for (int64_t w = window + 1; w * kWindow < runs.n && runs.keys[w * kWindow] == key; ++w) {
    const auto part = LoadFloats<kCount>(heads + w * width + c);
#pragma unroll
    for (int k = 0; k < kCount; ++k) sum.value[k] += part.value[k];
  }
  AddTo(dw + key * width + c, sum);
}

// keys and rows sorted by key, stably, in `memory` of 4 * n numbers.
Runs SortRows(const EmbeddingBwdArgs& args, int32_t* memory, Stream stream) {
  const int64_t n = args.ids.dim(0);
  const auto vocabulary = static_cast<int32_t>(args.dw.dim(0));
  int32_t *keys = memory, *rows = keys + n, *sorted_keys = rows + n, *sorted_rows = sorted_keys + n;
  Launch(KeysOfRows, n, stream, args.ids.As<const int32_t>(), keys, rows, n, vocabulary);
  size_t bytes = 0;
  const auto sort = [&](void* scratch) {
    LACUNA_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
        scratch, bytes, keys, sorted_keys, rows, sorted_rows, static_cast<int>(n), 0,
        std::bit_width(static_cast<uint32_t>(vocabulary)),
        static_cast<cudaStream_t>(stream.handle)));
  };
  sort(nullptr);
  const Workspace scratch(static_cast<int64_t>(bytes), stream);
  sort(scratch.As<void>());
  return {sorted_keys, sorted_rows, n, vocabulary};
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
  const int64_t n = args.ids.dim(0), width = args.dw.dim(1), windows = (n + kWindow - 1) / kWindow;
  if (n == 0 || width == 0) return;
  const Workspace lists(4 * n * static_cast<int64_t>(sizeof(int32_t)), stream);
  const Runs runs = SortRows(args, lists.As<int32_t>(), stream);
  const Workspace sums(2 * windows * width * static_cast<int64_t>(sizeof(float)), stream);
  float *heads = sums.As<float>(), *tails = heads + windows * width;
  DispatchDeviceFloat(args.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto launch = [&](auto count) {
      constexpr int kCount = decltype(count)::value, kWarps = kRowThreads / kWarp;
      const dim3 grid(static_cast<unsigned>((windows + kWarps - 1) / kWarps),
                      static_cast<unsigned>((width + kWarp * kCount - 1) / (kWarp * kCount)));
      LaunchGrid(SumWindows<kCount, T>, grid, kRowThreads, 0, stream, runs, args.dy.As<const T>(),
                 args.dw.As<float>(), heads, tails, width);
      LaunchGrid(SumRuns<kCount>, grid, kRowThreads, 0, stream, runs, heads, tails,
                 args.dw.As<float>(), width);
    };
    Packable<T>(args.dy.data, width) && IsAligned(args.dw.data)
        ? launch(std::integral_constant<int, kVector<T>>{})
        : launch(std::integral_constant<int, 1>{});
  });
}

}  // namespace lacuna::cuda
