// Blocks of tokens, gathered and scattered. A block of threads takes a row of the output (a
// compression block and group, or a token), its threads the packs of the row, so that no 64-bit
// index is divided. The gradient of a token is the sum over the l / d blocks that contain it,
// ascending. That of the positions is summed over kPartRows rows at a time, then over these parts in
// order; a call is one document, so the parts are its own.
#include "core/cuda/memory.h"
#include "core/cuda/vector.cuh"
#include "nsa/block_gather.h"

namespace lacuna::cuda {
namespace {

constexpr int64_t kPartRows = 64;

template <int kCount, class T>
__global__ void GatherKernel(const T* x, const T* pos, T* blocks, int groups, int width, int block,
                             int stride) {
  const int64_t i = blockIdx.x / groups, row = int64_t{block} * width;
  const int g = static_cast<int>(blockIdx.x % groups), packs = width / kCount;
  for (int p = static_cast<int>(threadIdx.x); p < block * packs; p += blockDim.x) {
    const int u = p / packs, c = p % packs * kCount;
    auto value = LoadPack<kCount>(x + ((i * stride + u) * groups + g) * width + c);
    if (pos != nullptr) {
      const auto add = LoadPack<kCount>(pos + int64_t{u} * width + c);
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        value.value[k] = Store<T>(Load(value.value[k]) + Load(add.value[k]));
    }
    StorePack(blocks + blockIdx.x * row + int64_t{u} * width + c, value);
  }
}

// The compressed blocks [first, end) that contain token t of a document with `blocks` of them.
struct Containing {
  int64_t first, end;
  __device__ Containing(int64_t t, int64_t blocks, int block, int stride)
      : first(t < block ? 0 : (t - block) / stride + 1), end(min(blocks, t / stride + 1)) {}
};

template <int kCount, class T>
__global__ void GatherBackwardKernel(const T* dblocks, T* dx, int64_t blocks, int groups, int width,
                                     int block, int stride) {
  const int64_t t = blockIdx.x, row = int64_t{block} * width;
  const Containing in(t, blocks, block, stride);
  const int packs = width / kCount;
  for (int p = static_cast<int>(threadIdx.x); p < groups * packs; p += blockDim.x) {
    const int g = p / packs, c = p % packs * kCount;
    float sum[kCount] = {};
    for (int64_t i = in.first; i < in.end; ++i) {
      const auto d =
          LoadPack<kCount>(dblocks + (i * groups + g) * row + (t - i * stride) * width + c);
#pragma unroll
      for (int k = 0; k < kCount; ++k) sum[k] += Load(d.value[k]);
    }
    Pack<T, kCount> out;
#pragma unroll
    for (int k = 0; k < kCount; ++k) out.value[k] = Store<T>(sum[k]);
    StorePack(dx + (t * groups + g) * width + c, out);
  }
}

// part[blockIdx.y, column] = the sum over kPartRows rows.
template <class T>
__global__ void PositionPartsKernel(const T* dblocks, float* part, int64_t rows, int64_t columns) {
  const int64_t column = GlobalIndex(), first = blockIdx.y * kPartRows,
                end = min(rows, first + kPartRows);
  if (column >= columns) return;
  float sum = 0;
#pragma unroll 8
  for (int64_t r = first; r < end; ++r) sum += Load(dblocks[r * columns + column]);
  part[blockIdx.y * columns + column] = sum;
}

__global__ void AddPartsKernel(const float* part, float* dpos, int64_t parts, int64_t columns) {
  for (int64_t column = GlobalIndex(); column < columns; column += GridSize()) {
    float sum = 0;
    for (int64_t i = 0; i < parts; ++i) sum += part[i * columns + column];
    dpos[column] += sum;
  }
}

template <class T>
__global__ void MeanKernel(const T* x, T* y, int line, int block, int stride) {
  const int64_t i = blockIdx.x;
  for (int c = static_cast<int>(threadIdx.x); c < line; c += blockDim.x) {
    float sum = 0;
    for (int u = 0; u < block; ++u) sum += Load(x[(i * stride + u) * line + c]);
    y[i * line + c] = Store<T>(sum / static_cast<float>(block));
  }
}

template <class T>
__global__ void MeanBackwardKernel(const T* dy, T* dx, int64_t blocks, int line, int block,
                                   int stride) {
  const int64_t t = blockIdx.x;
  const Containing in(t, blocks, block, stride);
  for (int c = static_cast<int>(threadIdx.x); c < line; c += blockDim.x) {
    float sum = 0;
    for (int64_t i = in.first; i < in.end; ++i) sum += Load(dy[i * line + c]);
    dx[t * line + c] = Store<T>(sum / static_cast<float>(block));
  }
}

// f(the number of elements a pack): kVector where all rows of `width` elements are whole packs.
template <class T, class F>
void DispatchPack(int64_t width, std::initializer_list<const void*> addresses, F&& f) {
  const bool packed = std::all_of(addresses.begin(), addresses.end(),
                                  [=](const void* address) { return Packable<T>(address, width); });
  packed ? f(std::integral_constant<int, kVector<T>>{}) : f(std::integral_constant<int, 1>{});
}

dim3 Rows(int64_t rows) {
  return dim3(static_cast<unsigned>(rows));
}

template <class T>
void PositionGradient(const GatherBlocksBwdArgs& args, Stream stream) {
  const int64_t rows = args.dblocks.dim(0), columns = args.dblocks.dim(1),
                parts = (rows + kPartRows - 1) / kPartRows;
  if (rows == 0) return;
  const Workspace part(parts * columns * 4, stream);
  const dim3 grid(static_cast<unsigned>((columns + kThreads - 1) / kThreads),
                  static_cast<unsigned>(parts));
  LaunchGrid(PositionPartsKernel<T>, grid, dim3(kThreads), 0, stream, args.dblocks.As<T>(),
             part.As<float>(), rows, columns);
  Launch(AddPartsKernel, columns, stream, part.As<float>(), args.dpos.As<float>(), parts, columns);
}

}  // namespace

void GatherBlocksFwd(const GatherBlocksFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t width = args.x.dim(2);
    DispatchPack<T>(width, {args.x.data, args.pos.data, args.blocks.data}, [&](auto count) {
      LaunchGrid(GatherKernel<decltype(count)::value, T>, Rows(args.blocks.dim(0)), dim3(kThreads),
                 0, stream, args.x.As<T>(), args.pos.As<T>(), args.blocks.As<T>(),
                 static_cast<int>(args.x.dim(1)), static_cast<int>(width),
                 static_cast<int>(args.block), static_cast<int>(args.stride));
    });
  });
}

void GatherBlocksBwd(const GatherBlocksBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.dx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t groups = args.dx.dim(1), width = args.dx.dim(2);
    if (groups == 0) return;
    DispatchPack<T>(width, {args.dblocks.data, args.dx.data}, [&](auto count) {
      LaunchGrid(GatherBackwardKernel<decltype(count)::value, T>, Rows(args.dx.dim(0)), dim3(128),
                 0, stream, args.dblocks.As<T>(), args.dx.As<T>(), args.dblocks.dim(0) / groups,
                 static_cast<int>(groups), static_cast<int>(width), static_cast<int>(args.block),
                 static_cast<int>(args.stride));
    });
    if (args.dpos.data != nullptr) PositionGradient<T>(args, stream);
  });
}

void BlockMeanFwd(const BlockMeanFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    LaunchGrid(MeanKernel<T>, Rows(args.y.dim(0)), dim3(kThreads), 0, stream, args.x.As<T>(),
               args.y.As<T>(), static_cast<int>(args.x.dim(1) * args.x.dim(2)),
               static_cast<int>(args.block), static_cast<int>(args.stride));
  });
}

void BlockMeanBwd(const BlockMeanBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.dx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    LaunchGrid(MeanBackwardKernel<T>, Rows(args.dx.dim(0)), dim3(kThreads), 0, stream,
               args.dy.As<T>(), args.dx.As<T>(), args.dy.dim(0),
               static_cast<int>(args.dx.dim(1) * args.dx.dim(2)), static_cast<int>(args.block),
               static_cast<int>(args.stride));
  });
}

}  // namespace lacuna::cuda
