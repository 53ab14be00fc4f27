// RMS norm. A warp takes a row and keeps it in registers: kPacks packs of 16 bytes a lane, pack p of
// lane l being columns (32 p + l) V .. + V. Every element is read once and written once.
//
//   Fwd   sum of squares over the warp, then y.
//   Bwd   dot = mean(xhat w dy) over the warp, then dx. dw: each warp sums dy xhat over its rows in
//         registers, the block over its warps, a second kernel over the blocks in order. Rows go to
//         warps by number alone, so the sums do not depend on timing.
//
// Rows too wide for registers or not aligned go one element a lane at a time, re-read from cache.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/rms_norm.h"

namespace lacuna::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxPacks = 16;

// f(i) for the elements i of a lane's columns; c is the first column of its pack.
template <int kPacks, int kCount, class F>
__device__ void ForPacks(int64_t columns, int lane, F&& f) {
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t c = (int64_t{p} * kWarp + lane) * kCount;
    if (c < columns) f(p, c);
  }
}

template <int kPacks, class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    FwdKernel(const T* x, const T* w, T* y, float* rstd_out, int64_t rows, int64_t columns,
              float eps) {
  constexpr int V = kVector<T>;
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; row < rows;
       row += int64_t{gridDim.x} * kWarps) {
    Pack<T> in[kPacks];
    float sum = 0;
    ForPacks<kPacks, V>(columns, lane,
                        [&](int p, int64_t c) { in[p] = LoadPack(x + row * columns + c); });
    ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t) {
#pragma unroll
      for (int k = 0; k < V; ++k) sum += Load(in[p].value[k]) * Load(in[p].value[k]);
    });
    const float rstd = rsqrtf(WarpReduce(sum) / static_cast<float>(columns) + eps);
    if (lane == 0) rstd_out[row] = rstd;
    ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t c) {
      const Pack<T> weight = LoadPack(w + c);
      Pack<T> out;
#pragma unroll
      for (int k = 0; k < V; ++k)
        out.value[k] = Store<T>(Load(in[p].value[k]) * rstd * Load(weight.value[k]));
      StorePack(y + row * columns + c, out);
    });
  }
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    FwdAnyKernel(const T* x, const T* w, T* y, float* rstd_out, int64_t rows, int64_t columns,
                 float eps) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; row < rows;
       row += int64_t{gridDim.x} * kWarps) {
    const T* in = x + row * columns;
    float sum = 0;
    for (int64_t c = lane; c < columns; c += kWarp) sum += Load(in[c]) * Load(in[c]);
    const float rstd = rsqrtf(WarpReduce(sum) / static_cast<float>(columns) + eps);
    if (lane == 0) rstd_out[row] = rstd;
    for (int64_t c = lane; c < columns; c += kWarp)
      y[row * columns + c] = Store<T>(Load(in[c]) * rstd * Load(w[c]));
  }
}

// partial: [gridDim.x, C], the block's sum of dy xhat.
template <int kPacks, class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    BwdKernel(const T* x, const T* w, const float* rstd_in, const T* dy, T* dx, float* partial,
              int64_t rows, int64_t columns) {
  constexpr int V = kVector<T>;
  extern __shared__ float shared[];  // [kWarps, C]
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  float dw[kPacks][V] = {};
  for (int64_t row = int64_t{blockIdx.x} * kWarps + warp; row < rows;
       row += int64_t{gridDim.x} * kWarps) {
    Pack<T> in[kPacks], grad[kPacks];
    ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t c) {
      in[p] = LoadPack(x + row * columns + c);
      grad[p] = LoadPack(dy + row * columns + c);
    });
    const float rstd = rstd_in[row];
    float dot = 0;
    ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t c) {
      const Pack<T> weight = LoadPack(w + c);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float xhat = Load(in[p].value[k]) * rstd, g = Load(grad[p].value[k]);
        dot += xhat * Load(weight.value[k]) * g;
        dw[p][k] += g * xhat;
      }
    });
    const float mean = WarpReduce(dot) / static_cast<float>(columns);
    ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t c) {
      const Pack<T> weight = LoadPack(w + c);
      Pack<T> out;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        out.value[k] = Store<T>(rstd * (Load(weight.value[k]) * Load(grad[p].value[k]) -
                                        Load(in[p].value[k]) * rstd * mean));
      }
      StorePack(dx + row * columns + c, out);
    });
  }
  ForPacks<kPacks, V>(columns, lane, [&](int p, int64_t c) {
#pragma unroll
    for (int k = 0; k < V; ++k) shared[warp * columns + c + k] = dw[p][k];
  });
  __syncthreads();
  for (int64_t c = threadIdx.x; c < columns; c += blockDim.x) {
    float sum = 0;
    for (int i = 0; i < kWarps; ++i) sum += shared[i * columns + c];
    partial[blockIdx.x * columns + c] = sum;
  }
}

template <class T>
__global__ void __launch_bounds__(kWarps* kWarp)
    BwdAnyDxKernel(const T* x, const T* w, const float* rstd_in, const T* dy, T* dx, int64_t rows,
                   int64_t columns) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; row < rows;
       row += int64_t{gridDim.x} * kWarps) {
    const int64_t at = row * columns;
    const float rstd = rstd_in[row];
    float dot = 0;
    for (int64_t c = lane; c < columns; c += kWarp)
      dot += Load(x[at + c]) * rstd * Load(w[c]) * Load(dy[at + c]);
    const float mean = WarpReduce(dot) / static_cast<float>(columns);
    for (int64_t c = lane; c < columns; c += kWarp) {
      dx[at + c] = Store<T>(rstd * (Load(w[c]) * Load(dy[at + c]) - Load(x[at + c]) * rstd * mean));
    }
  }
}

// partial[i, c]: the sum over the rows of part i. A thread takes a column.
template <class T>
__global__ void BwdAnyDwKernel(const T* x, const float* rstd, const T* dy, float* partial,
                               int64_t rows, int64_t columns) {
  const int64_t c = GlobalIndex(), part = (rows + gridDim.y - 1) / gridDim.y,
                begin = blockIdx.y * part, end = begin + part < rows ? begin + part : rows;
  if (c >= columns) return;
  float sum = 0;
  for (int64_t row = begin; row < end; ++row)
    sum += Load(dy[row * columns + c]) * Load(x[row * columns + c]) * rstd[row];
  partial[blockIdx.y * columns + c] = sum;
}

// dw[c] += sum over the parts of partial[i, c]: a warp takes 32 columns, a block shares the parts
// out among its warps.
constexpr int kFinishWarps = 8;
__global__ void __launch_bounds__(kFinishWarps* kWarp)
    FinishDwKernel(const float* partial, float* dw, int parts, int64_t columns) {
  __shared__ float sums[kFinishWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t c = int64_t{blockIdx.x} * kWarp + lane;
  float sum = 0;
  if (c < columns) {
    for (int i = warp; i < parts; i += kFinishWarps) sum += partial[i * columns + c];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || c >= columns) return;
  for (int i = 1; i < kFinishWarps; ++i) sum += sums[i][lane];
  dw[c] += sum;
}

// f(packs) with the smallest number of packs a lane that holds a row; false where none does.
template <class F>
bool WithPacks(int64_t packs_a_row, F&& f) {
  const int64_t packs = (packs_a_row + kWarp - 1) / kWarp;
  if (packs > kMaxPacks) return false;
  if (packs <= 1) {
    f(std::integral_constant<int, 1>{});
  } else if (packs <= 2) {
    f(std::integral_constant<int, 2>{});
  } else if (packs <= 4) {
    f(std::integral_constant<int, 4>{});
  } else if (packs <= 10) {
    f(std::integral_constant<int, 10>{});
  } else {
    f(std::integral_constant<int, kMaxPacks>{});
  }
  return true;
}

template <class T>
void Forward(const RmsNormFwdArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>((rows + kWarps - 1) / kWarps, 1 << 20)));
  const auto launch = [&](auto kernel) {
    LaunchGrid(kernel, grid, kWarps * kWarp, 0, stream, args.x.As<const T>(), args.w.As<const T>(),
               args.y.As<T>(), args.rstd.As<float>(), rows, columns, static_cast<float>(args.eps));
  };
  const bool packable =
      Packable<T>(args.x.data, columns) && IsAligned(args.w.data) && IsAligned(args.y.data);
  const bool done = packable && WithPacks(columns / kVector<T>, [&](auto packs) {
                      launch(FwdKernel<decltype(packs)::value, T>);
                    });
  if (!done) launch(FwdAnyKernel<T>);
}

template <class T>
void Backward(const RmsNormBwdArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  if (rows == 0 || columns == 0) return;
  const int parts = static_cast<int>(
      std::min<int64_t>((rows + kWarps - 1) / kWarps, 3 * NumMultiprocessors(stream)));
  const Workspace partial(parts * columns * static_cast<int64_t>(sizeof(float)), stream);
  const bool packable = Packable<T>(args.x.data, columns) && IsAligned(args.w.data) &&
                        IsAligned(args.dy.data) && IsAligned(args.dx.data);
  const bool done =
      packable && WithPacks(columns / kVector<T>, [&](auto packs) {
        LaunchGrid(BwdKernel<decltype(packs)::value, T>, dim3(static_cast<unsigned>(parts)),
                   kWarps * kWarp, kWarps * columns * static_cast<int64_t>(sizeof(float)), stream,
                   args.x.As<const T>(), args.w.As<const T>(), args.rstd.As<const float>(),
                   args.dy.As<const T>(), args.dx.As<T>(), partial.As<float>(), rows, columns);
      });
  if (!done) {
    LaunchGrid(
        BwdAnyDxKernel<T>,
        dim3(static_cast<unsigned>(std::min<int64_t>((rows + kWarps - 1) / kWarps, 1 << 20))),
        kWarps * kWarp, 0, stream, args.x.As<const T>(), args.w.As<const T>(),
        args.rstd.As<const float>(), args.dy.As<const T>(), args.dx.As<T>(), rows, columns);
    LaunchGrid(BwdAnyDwKernel<T>,
               dim3(static_cast<unsigned>((columns + kThreads - 1) / kThreads),
                    static_cast<unsigned>(parts)),
               kThreads, 0, stream, args.x.As<const T>(), args.rstd.As<const float>(),
               args.dy.As<const T>(), partial.As<float>(), rows, columns);
  }
  LaunchGrid(FinishDwKernel, dim3(static_cast<unsigned>((columns + kWarp - 1) / kWarp)),
             kFinishWarps * kWarp, 0, stream, partial.As<const float>(), args.dw.As<float>(), parts,
             columns);
}

}  // namespace

void RmsNormFwd(const RmsNormFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.x.dtype,
                      [&](auto tag) { Forward<typename decltype(tag)::type>(args, stream); });
}

void RmsNormBwd(const RmsNormBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.x.dtype,
                      [&](auto tag) { Backward<typename decltype(tag)::type>(args, stream); });
}

}  // namespace lacuna::cuda
