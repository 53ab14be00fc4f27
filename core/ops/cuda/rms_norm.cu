// RMS norm. A group of lanes takes a row and keeps it in registers, kPacks packs of 16 bytes a lane;
// every element is read once and written once. Narrow rows share a warp, wide ones take a block:
//
//   packs a row      lanes a row         e.g. bf16
//   <= 2, 8, 24,     2 packs: 1, 4       D = 64: 8 packs, 4 lanes of 2
//   48, 96           3 packs: 8, 16, 32  D = 192: 24 packs, 8 lanes of 3, four rows a warp
//   <= 4096          a block of packs / 2 threads (packs / 4 from 1025 packs on); in the forward pass
//                    a warp of 10 packs a lane up to 320
//
//   Fwd   sum of squares over the group, then y.
//   Bwd   dot = mean(xhat w dy) over the group, then dx. dw: each lane sums dy xhat over its rows in
//         registers, the block over its groups, a second kernel over the blocks in order. Rows go to
//         groups by number alone, so the sums do not depend on timing.
//
// Rows that are not aligned or still wider go one element a lane at a time, re-read from cache.
#include "core/cuda/memory.h"
#include "core/cuda/reduce.cuh"
#include "core/cuda/runtime.h"
#include "core/cuda/vector.cuh"
#include "core/ops/rms_norm.h"

namespace lacuna::cuda {
namespace {

// kLanes of the kernels below: a row has the whole block.
constexpr int kBlock = 0;

struct Rows {
  int64_t rows, columns;
  int per_block;  // rows that a block takes at once
};

// A lane's place: which row of the block's, and which lane of the row's.
template <int kLanes>
struct Place {
  int lane, row, lanes;
  __device__ Place() {
    lanes = kLanes == kBlock ? static_cast<int>(blockDim.x) : kLanes;
    lane =
        kLanes == kBlock ? static_cast<int>(threadIdx.x) : static_cast<int>(threadIdx.x) % kLanes;
    row = kLanes == kBlock ? 0 : static_cast<int>(threadIdx.x) / kLanes;
  }
};

template <int kLanes>
__device__ float RowSum(float value, float* scratch) {
  if constexpr (kLanes == kBlock) {
    return BlockReduce(value, scratch);
  } else {
    return WarpReduce<kLanes>(value);
  }
}

// f(p, c) for the packs of a lane that lie in the row; c is the pack's first column.
template <int kPacks, int kCount, class F>
__device__ void ForPacks(int64_t columns, int lane, int lanes, F&& f) {
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int64_t c = (int64_t{p} * lanes + lane) * kCount;
    if (c < columns) f(p, c);
  }
}

// Most threads of a block with so many packs a lane.
constexpr int MostThreads(int packs) {
  return packs == 4 ? 1024 : 512;
}

template <int kLanes, int kPacks, class T>
__global__ void __launch_bounds__(MostThreads(kPacks))
    FwdKernel(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y,
              float* __restrict__ rstd_out, Rows s, float eps) {
  constexpr int V = kVector<T>;
  __shared__ float scratch[kWarp];
  const Place<kLanes> at;
  const int64_t row = int64_t{blockIdx.x} * s.per_block + at.row,
                columns = row < s.rows ? s.columns : 0;  // all lanes take part in the sums
  Pack<T> in[kPacks];
  float sum = 0;
  ForPacks<kPacks, V>(columns, at.lane, at.lanes,
                      [&](int p, int64_t c) { in[p] = LoadPack(x + row * s.columns + c); });
  ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t) {
#pragma unroll
    for (int k = 0; k < V; ++k) sum += Load(in[p].value[k]) * Load(in[p].value[k]);
  });
  const float rstd = rsqrtf(RowSum<kLanes>(sum, scratch) / static_cast<float>(s.columns) + eps);
  if (at.lane == 0 && row < s.rows) rstd_out[row] = rstd;
  ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t c) {
    const Pack<T> weight = LoadPack(w + c);
    Pack<T> out;
#pragma unroll
    for (int k = 0; k < V; ++k)
      out.value[k] = Store<T>(Load(in[p].value[k]) * rstd * Load(weight.value[k]));
    StorePack(y + row * s.columns + c, out);
  });
}

// partial: [gridDim.x, C], the block's sum of dy xhat.
template <int kLanes, int kPacks, class T>
__global__ void __launch_bounds__(MostThreads(kPacks))
    BwdKernel(const T* __restrict__ x, const T* __restrict__ w, const float* __restrict__ rstd_in,
              const T* __restrict__ dy, T* __restrict__ dx, float* __restrict__ partial, Rows s) {
  constexpr int V = kVector<T>;
  extern __shared__ float shared[];  // [rows a block, C] where several rows share a block
  __shared__ float scratch[kWarp];
  const Place<kLanes> at;
  Pack<T> weight[kPacks];
  float dw[kPacks][V] = {};
  ForPacks<kPacks, V>(s.columns, at.lane, at.lanes,
                      [&](int p, int64_t c) { weight[p] = LoadPack(w + c); });
  const int64_t step = int64_t{gridDim.x} * s.per_block;
  for (int64_t first = int64_t{blockIdx.x} * s.per_block; first < s.rows; first += step) {
    const int64_t row = first + at.row, columns = row < s.rows ? s.columns : 0;
    Pack<T> in[kPacks], grad[kPacks];
    ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t c) {
      in[p] = LoadPack(x + row * s.columns + c);
      grad[p] = LoadPack(dy + row * s.columns + c);
    });
    const float rstd = row < s.rows ? rstd_in[row] : 0.0f;
    float dot = 0;
    ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t) {
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float xhat = Load(in[p].value[k]) * rstd, g = Load(grad[p].value[k]);
        dot += xhat * Load(weight[p].value[k]) * g;
        dw[p][k] += g * xhat;
      }
    });
    const float mean = RowSum<kLanes>(dot, scratch) / static_cast<float>(s.columns);
    ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t c) {
      Pack<T> out;
#pragma unroll
      for (int k = 0; k < V; ++k) {
        out.value[k] = Store<T>(rstd * (Load(weight[p].value[k]) * Load(grad[p].value[k]) -
                                        Load(in[p].value[k]) * rstd * mean));
      }
      StorePack(dx + row * s.columns + c, out);
    });
  }
  float* const sums =
      kLanes == kBlock ? partial + blockIdx.x * s.columns : shared + at.row * s.columns;
  ForPacks<kPacks, V>(s.columns, at.lane, at.lanes, [&](int p, int64_t c) {
#pragma unroll
    for (int k = 0; k < V; ++k) sums[c + k] = dw[p][k];
  });
  if constexpr (kLanes == kBlock) return;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < s.columns; c += blockDim.x) {
    float sum = 0;
    for (int i = 0; i < s.per_block; ++i) sum += shared[i * s.columns + c];
    partial[blockIdx.x * s.columns + c] = sum;
  }
}

constexpr int kAnyWarps = 4;

template <class T>
__global__ void FwdAnyKernel(const T* x, const T* w, T* y, float* rstd_out, Rows s, float eps) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = GlobalIndex() / kWarp; row < s.rows; row += GridSize() / kWarp) {
    const T* in = x + row * s.columns;
    float sum = 0;
    for (int64_t c = lane; c < s.columns; c += kWarp) sum += Load(in[c]) * Load(in[c]);
    const float rstd = rsqrtf(WarpReduce(sum) / static_cast<float>(s.columns) + eps);
    if (lane == 0) rstd_out[row] = rstd;
    for (int64_t c = lane; c < s.columns; c += kWarp)
      y[row * s.columns + c] = Store<T>(Load(in[c]) * rstd * Load(w[c]));
  }
}

template <class T>
__global__ void BwdAnyDxKernel(const T* x, const T* w, const float* rstd_in, const T* dy, T* dx,
                               Rows s) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = GlobalIndex() / kWarp; row < s.rows; row += GridSize() / kWarp) {
    const int64_t at = row * s.columns;
    const float rstd = rstd_in[row];
    float dot = 0;
    for (int64_t c = lane; c < s.columns; c += kWarp)
      dot += Load(x[at + c]) * rstd * Load(w[c]) * Load(dy[at + c]);
    const float mean = WarpReduce(dot) / static_cast<float>(s.columns);
    for (int64_t c = lane; c < s.columns; c += kWarp) {
      dx[at + c] = Store<T>(rstd * (Load(w[c]) * Load(dy[at + c]) - Load(x[at + c]) * rstd * mean));
    }
  }
}

// partial[i, c]: the sum over the rows of part i. A thread takes a column.
template <class T>
__global__ void BwdAnyDwKernel(const T* x, const float* rstd, const T* dy, float* partial, Rows s) {
  const int64_t c = GlobalIndex(), part = (s.rows + gridDim.y - 1) / gridDim.y,
                begin = blockIdx.y * part, end = begin + part < s.rows ? begin + part : s.rows;
  if (c >= s.columns) return;
  float sum = 0;
  for (int64_t row = begin; row < end; ++row)
    sum += Load(dy[row * s.columns + c]) * Load(x[row * s.columns + c]) * rstd[row];
  partial[blockIdx.y * s.columns + c] = sum;
}

// dw[c] += sum over the parts of partial[i, c]: a block takes 32 columns and shares the parts out
// among its warps, whose sums are added in order.
constexpr int kFinishWarps = 32;
__global__ void __launch_bounds__(kFinishWarps* kWarp)
    FinishDwKernel(const float* __restrict__ partial, float* dw, int parts, int64_t columns) {
  __shared__ float sums[kFinishWarps][kWarp];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t c = int64_t{blockIdx.x} * kWarp + lane;
  float sum = 0;
  if (c < columns) {
#pragma unroll 8
    for (int i = warp; i < parts; i += kFinishWarps) sum += partial[i * columns + c];
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || c >= columns) return;
  for (int i = 1; i < kFinishWarps; ++i) sum += sums[i][lane];
  dw[c] += sum;
}

template <int kLanes, int kPacks>
struct Shape {
  static constexpr int kLanesOf = kLanes, kPacksOf = kPacks;
  int threads;
};

// The same for the forward pass, which keeps less: a warp a row as long as a lane can hold its packs.
template <class F>
bool WithForwardShape(int64_t packs, F&& f);

// f(shape) with lanes and packs for rows of so many packs; false where registers do not hold them.
template <class F>
bool WithShape(int64_t packs, F&& f) {
  constexpr int kThreadsOf = 128;
  const auto whole_warps = [](int64_t threads) {
    return static_cast<int>((threads + kWarp - 1) / kWarp * kWarp);
  };
  if (packs <= 2) {
    f(Shape<1, 2>{kThreadsOf});
  } else if (packs <= 8) {
    f(Shape<4, 2>{kThreadsOf});
  } else if (packs <= 24) {
    f(Shape<8, 3>{kThreadsOf});
  } else if (packs <= 48) {
    f(Shape<16, 3>{kThreadsOf});
  } else if (packs <= 96) {
    f(Shape<32, 3>{kThreadsOf});
  } else if (packs <= 2 * MostThreads(2)) {
    f(Shape<kBlock, 2>{whole_warps((packs + 1) / 2)});
  } else if (packs <= 4 * MostThreads(4)) {
    f(Shape<kBlock, 4>{whole_warps((packs + 3) / 4)});
  } else {
    return false;
  }
  return true;
}

// The same for the forward pass, where a lane has room for more: blocks wait at their sums, warps do
// not.
template <class F>
bool WithForwardShape(int64_t packs, F&& f) {
  if (packs > 96 && packs <= 10 * kWarp) {
    f(Shape<kWarp, 10>{2 * kWarp});
    return true;
  }
  return WithShape(packs, f);
}

template <class S>
Rows RowsOf(const TensorRef& x, const S& shape) {
  return {x.dim(0), x.dim(1), S::kLanesOf == kBlock ? 1 : shape.threads / std::max(1, S::kLanesOf)};
}

dim3 BlocksOf(int64_t rows, int64_t per_block, int64_t most) {
  return dim3(static_cast<unsigned>(std::min((rows + per_block - 1) / per_block, most)));
}

template <class T>
void Forward(const RmsNormFwdArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1);
  const auto launch = [&](auto kernel, dim3 grid, int threads, const Rows& s) {
    LaunchGrid(kernel, grid, threads, 0, stream, args.x.As<const T>(), args.w.As<const T>(),
               args.y.As<T>(), args.rstd.As<float>(), s, static_cast<float>(args.eps));
  };
  const bool packable =
      Packable<T>(args.x.data, columns) && IsAligned(args.w.data) && IsAligned(args.y.data);
  const bool done = packable && WithForwardShape(columns / kVector<T>, [&](auto shape) {
                      using S = decltype(shape);
                      const Rows s = RowsOf(args.x, shape);
                      launch(FwdKernel<S::kLanesOf, S::kPacksOf, T>,
                             BlocksOf(rows, s.per_block, INT32_MAX), shape.threads, s);
                    });
  if (!done)
    launch(FwdAnyKernel<T>, BlocksOf(rows, kAnyWarps, 1 << 20), kAnyWarps * kWarp,
           {rows, columns, kAnyWarps});
}

// Blocks whose sums of dw are added up at last; as many as fill the card.
int64_t PartsOf(int64_t rows, int64_t per_block, int64_t threads, Stream stream) {
  const int64_t a_multiprocessor = std::max<int64_t>(1, 1024 / threads);
  return std::min((rows + per_block - 1) / per_block,
                  a_multiprocessor * NumMultiprocessors(stream));
}

template <class T>
void BackwardAny(const RmsNormBwdArgs& args, int64_t parts, float* partial, Stream stream) {
  const Rows s{args.x.dim(0), args.x.dim(1), kAnyWarps};
  LaunchGrid(BwdAnyDxKernel<T>, BlocksOf(s.rows, kAnyWarps, 1 << 20), kAnyWarps * kWarp, 0, stream,
             args.x.As<const T>(), args.w.As<const T>(), args.rstd.As<const float>(),
             args.dy.As<const T>(), args.dx.As<T>(), s);
  LaunchGrid(BwdAnyDwKernel<T>,
             dim3(static_cast<unsigned>((s.columns + kThreads - 1) / kThreads),
                  static_cast<unsigned>(parts)),
             kThreads, 0, stream, args.x.As<const T>(), args.rstd.As<const float>(),
             args.dy.As<const T>(), partial, s);
}

template <class T>
void Backward(const RmsNormBwdArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1),
                row_bytes = columns * static_cast<int64_t>(sizeof(float));
  if (rows == 0 || columns == 0) return;
  const auto finish = [&](const Workspace& partial, int64_t parts) {
    LaunchGrid(FinishDwKernel, BlocksOf(columns, kWarp, INT32_MAX), kFinishWarps * kWarp, 0, stream,
               partial.As<const float>(), args.dw.As<float>(), static_cast<int>(parts), columns);
  };
  const bool packable = Packable<T>(args.x.data, columns) && IsAligned(args.w.data) &&
                        IsAligned(args.dy.data) && IsAligned(args.dx.data);
  const bool done =
      packable && WithShape(columns / kVector<T>, [&](auto shape) {
        using S = decltype(shape);
        const Rows s = RowsOf(args.x, shape);
        const int64_t parts = PartsOf(rows, s.per_block, shape.threads, stream);
        const Workspace partial(parts * row_bytes, stream);
        LaunchGrid(BwdKernel<S::kLanesOf, S::kPacksOf, T>, dim3(static_cast<unsigned>(parts)),
                   shape.threads, S::kLanesOf == kBlock ? 0 : s.per_block * row_bytes, stream,
                   args.x.As<const T>(), args.w.As<const T>(), args.rstd.As<const float>(),
                   args.dy.As<const T>(), args.dx.As<T>(), partial.As<float>(), s);
        finish(partial, parts);
      });
  if (done) return;
  const int64_t parts = PartsOf(rows, kAnyWarps, kAnyWarps * kWarp, stream);
  const Workspace partial(parts * row_bytes, stream);
  BackwardAny<T>(args, parts, partial.As<float>(), stream);
  finish(partial, parts);
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
