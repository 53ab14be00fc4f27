// RMS norm. A group of lanes takes a row and keeps it in registers, kPacks packs of 16 bytes a lane;
// every element is read once and written once. Narrow rows share a warp, wide ones take a block:
//
//   packs a row      lanes a row         e.g. bf16
//   <= 2, 8, 24,     2 packs: 1, 4       D = 64: 8 packs, 4 lanes of 2
//   48, 96           3 packs: 8, 16, 32  D = 192: 24 packs, 8 lanes of 3, four rows a warp
//   <= 4096          a block: a pack a thread up to 512 packs, then 2, from 1025 on 4; in the forward
//                    pass a warp of 10 packs a lane up to 320
//
//   Fwd   sum of squares over the group, then y.
//   Bwd   dot = mean(xhat w dy) over the group, then dx. dw: each lane sums dy xhat over its rows in
//         registers, the block over its groups, a second kernel over the blocks in order. Rows go to
//         groups by number alone, so the sums do not depend on timing. A block reads its next row
//         before it sums the present one: at the barrier it would have nothing under way.
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

// Calls of a block take turns with two scratches.
template <int kLanes>
__device__ float RowSum(float value, float* scratch) {
  if constexpr (kLanes == kBlock) {
    return BlockReduceOnce(value, scratch);
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

// What the backward pass reads of a row.
template <int kPacks, class T>
struct RowPacks {
  Pack<T> x[kPacks], dy[kPacks], add[kPacks];
  float rstd;
};

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
    const auto v = Widen(in[p]);
#pragma unroll
    for (int k = 0; k < V; ++k) sum += v.value[k] * v.value[k];
  });
  const float rstd = rsqrtf(RowSum<kLanes>(sum, scratch) / static_cast<float>(s.columns) + eps);
  if (at.lane == 0 && row < s.rows) rstd_out[row] = rstd;
  ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t c) {
    const auto weight = LoadFloats<V>(w + c);
    auto v = Widen(in[p]);
#pragma unroll
    for (int k = 0; k < V; ++k) v.value[k] = v.value[k] * rstd * weight.value[k];
    StoreFloats(y + row * s.columns + c, v);
  });
}

template <class T>
struct Backprop {
  const T *x, *w;
  const float* rstd;
  const T *dy, *add;  // add may be null
  T* dx;              // may be add
  float* partial;     // [gridDim.x, C], a block's sum of dy xhat
};

template <int kPacks, class T>
__device__ RowPacks<kPacks, T> LoadRow(const Backprop<T>& b, const Rows& s, int64_t row, int lane,
                                       int lanes) {
  constexpr int V = kVector<T>;
  RowPacks<kPacks, T> in;
  const int64_t columns = row < s.rows ? s.columns : 0, at = row * s.columns;
  in.rstd = row < s.rows ? b.rstd[row] : 0.0f;
  ForPacks<kPacks, V>(columns, lane, lanes, [&](int p, int64_t c) {
    in.x[p] = LoadPack(b.x + at + c);
    in.dy[p] = LoadPack(b.dy + at + c);
    if (b.add != nullptr) in.add[p] = LoadPack(b.add + at + c);
  });
  return in;
}

template <int kLanes, int kPacks, class T>
__global__ void __launch_bounds__(MostThreads(kPacks)) BwdKernel(Backprop<T> b, Rows s) {
  constexpr int V = kVector<T>;
  constexpr bool kAhead = kLanes == kBlock;
  extern __shared__ float shared[];  // [rows a block, C] where several rows share a block
  __shared__ float scratch[2][kWarp];
  const Place<kLanes> at;
  Pack<T> weight[kPacks];
  float dw[kPacks][V] = {};
  ForPacks<kPacks, V>(s.columns, at.lane, at.lanes,
                      [&](int p, int64_t c) { weight[p] = LoadPack(b.w + c); });
  const int64_t step = int64_t{gridDim.x} * s.per_block;
  int64_t first = int64_t{blockIdx.x} * s.per_block;
  RowPacks<kPacks, T> next;
  if (kAhead) next = LoadRow<kPacks>(b, s, first + at.row, at.lane, at.lanes);
  for (int turn = 0; first < s.rows; first += step, turn ^= 1) {
    const int64_t row = first + at.row, columns = row < s.rows ? s.columns : 0;
    const RowPacks<kPacks, T> in = kAhead ? next : LoadRow<kPacks>(b, s, row, at.lane, at.lanes);
    if (kAhead) next = LoadRow<kPacks>(b, s, row + step, at.lane, at.lanes);
    float dot = 0;
    ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t) {
      const auto x = Widen(in.x[p]), g = Widen(in.dy[p]), w = Widen(weight[p]);
#pragma unroll
      for (int k = 0; k < V; ++k) {
        const float xhat = x.value[k] * in.rstd;
        dot += xhat * w.value[k] * g.value[k];
        dw[p][k] += g.value[k] * xhat;
      }
    });
    const float mean = RowSum<kLanes>(dot, scratch[turn]) / static_cast<float>(s.columns);
    ForPacks<kPacks, V>(columns, at.lane, at.lanes, [&](int p, int64_t c) {
      const auto x = Widen(in.x[p]), g = Widen(in.dy[p]), w = Widen(weight[p]);
      Floats<V> out{};
      if (b.add != nullptr) out = Widen(in.add[p]);
#pragma unroll
      for (int k = 0; k < V; ++k)
        out.value[k] += in.rstd * (w.value[k] * g.value[k] - x.value[k] * in.rstd * mean);
      StoreFloats(b.dx + row * s.columns + c, out);
    });
  }
  float* const sums =
      kLanes == kBlock ? b.partial + blockIdx.x * s.columns : shared + at.row * s.columns;
  ForPacks<kPacks, V>(s.columns, at.lane, at.lanes, [&](int p, int64_t c) {
#pragma unroll
    for (int k = 0; k < V; ++k) sums[c + k] = dw[p][k];
  });
  if constexpr (kLanes == kBlock) return;
  __syncthreads();
  for (int64_t c = threadIdx.x; c < s.columns; c += blockDim.x) {
    float sum = 0;
    for (int i = 0; i < s.per_block; ++i) sum += shared[i * s.columns + c];
    b.partial[blockIdx.x * s.columns + c] = sum;
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
__global__ void BwdAnyDxKernel(Backprop<T> b, Rows s) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = GlobalIndex() / kWarp; row < s.rows; row += GridSize() / kWarp) {
    const int64_t at = row * s.columns;
    const float rstd = b.rstd[row];
    float dot = 0;
    for (int64_t c = lane; c < s.columns; c += kWarp)
      dot += Load(b.x[at + c]) * rstd * Load(b.w[c]) * Load(b.dy[at + c]);
    const float mean = WarpReduce(dot) / static_cast<float>(s.columns);
    for (int64_t c = lane; c < s.columns; c += kWarp) {
      const float add = b.add == nullptr ? 0.0f : Load(b.add[at + c]);
      b.dx[at + c] = Store<T>(
          add + rstd * (Load(b.w[c]) * Load(b.dy[at + c]) - Load(b.x[at + c]) * rstd * mean));
    }
  }
}

// partial[i, c]: the sum over the rows of part i. A thread takes a column.
template <class T>
__global__ void BwdAnyDwKernel(Backprop<T> b, Rows s) {
  const int64_t c = GlobalIndex(), part = (s.rows + gridDim.y - 1) / gridDim.y,
                begin = blockIdx.y * part, end = begin + part < s.rows ? begin + part : s.rows;
  if (c >= s.columns) return;
  float sum = 0;
  for (int64_t row = begin; row < end; ++row)
    sum += Load(b.dy[row * s.columns + c]) * Load(b.x[row * s.columns + c]) * b.rstd[row];
  b.partial[blockIdx.y * s.columns + c] = sum;
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
  } else if (packs <= MostThreads(1)) {
    f(Shape<kBlock, 1>{whole_warps(packs)});
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
void BackwardAny(const Backprop<T>& b, const Rows& s, int64_t parts, Stream stream) {
  LaunchGrid(BwdAnyDxKernel<T>, BlocksOf(s.rows, kAnyWarps, 1 << 20), kAnyWarps * kWarp, 0, stream,
             b, s);
  LaunchGrid(BwdAnyDwKernel<T>,
             dim3(static_cast<unsigned>((s.columns + kThreads - 1) / kThreads),
                  static_cast<unsigned>(parts)),
             kThreads, 0, stream, b, s);
}

template <class T>
void Backward(const RmsNormBwdArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), columns = args.x.dim(1),
                row_bytes = columns * static_cast<int64_t>(sizeof(float));
  if (rows == 0 || columns == 0) return;
  Backprop<T> b{.x = args.x.As<const T>(),
                .w = args.w.As<const T>(),
                .rstd = args.rstd.As<const float>(),
                .dy = args.dy.As<const T>(),
                .add = args.add.defined() ? args.add.As<const T>() : nullptr,
                .dx = args.dx.As<T>(),
                .partial = nullptr};
  const auto finish = [&](int64_t parts) {
    LaunchGrid(FinishDwKernel, BlocksOf(columns, kWarp, INT32_MAX), kFinishWarps * kWarp, 0, stream,
               b.partial, args.dw.As<float>(), static_cast<int>(parts), columns);
  };
  const bool packable = Packable<T>(b.x, columns) && IsAligned(b.w) && IsAligned(b.dy) &&
                        IsAligned(b.dx) && IsAligned(b.add);
  const bool done = packable && WithShape(columns / kVector<T>, [&](auto shape) {
                      using S = decltype(shape);
                      const Rows s = RowsOf(args.x, shape);
                      const int64_t parts = PartsOf(rows, s.per_block, shape.threads, stream);
                      const Workspace partial(parts * row_bytes, stream);
                      b.partial = partial.As<float>();
                      LaunchGrid(BwdKernel<S::kLanesOf, S::kPacksOf, T>,
                                 dim3(static_cast<unsigned>(parts)), shape.threads,
                                 S::kLanesOf == kBlock ? 0 : s.per_block * row_bytes, stream, b, s);
                      finish(parts);
                    });
  if (done) return;
  const int64_t parts = PartsOf(rows, kAnyWarps, kAnyWarps * kWarp, stream);
  const Workspace partial(parts * row_bytes, stream);
  b.partial = partial.As<float>();
  BackwardAny(b, {rows, columns, kAnyWarps}, parts, stream);
  finish(parts);
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
