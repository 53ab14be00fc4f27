// Blocks of tokens, gathered and scattered. A block of threads takes a row of the output (a
// compression block and group, or a token), its threads the packs of the row, so that no 64-bit
// index is divided. The gradient of a token is the sum over the l / d blocks that contain it,
// ascending. That of the positions is summed over kPartRows rows at a time, then over these parts in
// order.
#include "core/cuda/memory.h"
#include "core/cuda/vector.cuh"
#include "nsa/block_gather.h"
#include "nsa/block_map.h"

namespace lacuna::cuda {
namespace {

constexpr int64_t kPartRows = 64;

template <int kCount, class T>
__global__ void GatherKernel(const T* x, const T* pos, T* blocks, BlockMap map, int groups,
                             int width) {
  const int64_t first = map.FirstToken(blockIdx.x / groups), row = int64_t{map.block} * width;
  const int g = static_cast<int>(blockIdx.x % groups), packs = width / kCount;
  for (int p = static_cast<int>(threadIdx.x); p < map.block * packs; p += blockDim.x) {
    const int u = p / packs, c = p % packs * kCount;
    auto value = LoadPack<kCount>(x + ((first + u) * groups + g) * width + c);
    if (pos != nullptr) {
      const auto add = LoadPack<kCount>(pos + int64_t{u} * width + c);
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        value.value[k] = Store<T>(Load(value.value[k]) + Load(add.value[k]));
    }
    StorePack(blocks + blockIdx.x * row + int64_t{u} * width + c, value);
  }
}

template <int kCount, class T>
__global__ void GatherBackwardKernel(const T* dblocks, T* dx, BlockMap map, int groups, int width) {
  const int64_t t = blockIdx.x, row = int64_t{map.block} * width;
  const BlockRange in = map.Containing(t);
  const int packs = width / kCount;
  for (int p = static_cast<int>(threadIdx.x); p < groups * packs; p += blockDim.x) {
    const int g = p / packs, c = p % packs * kCount;
    float sum[kCount] = {};
    for (int64_t i = in.begin; i < in.end; ++i) {
      const auto d =
          LoadPack<kCount>(dblocks + (i * groups + g) * row + (t - map.FirstToken(i)) * width + c);
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
__global__ void MeanKernel(const T* x, T* y, BlockMap map, int line) {
  const int64_t i = blockIdx.x, first = map.FirstToken(i);
  for (int c = static_cast<int>(threadIdx.x); c < line; c += blockDim.x) {
    float sum = 0;
    for (int u = 0; u < map.block; ++u) sum += Load(x[(first + u) * line + c]);
    y[i * line + c] = Store<T>(sum / static_cast<float>(map.block));
  }
}

template <class T>
__global__ void MeanBackwardKernel(const T* dy, T* dx, BlockMap map, int line) {
  const int64_t t = blockIdx.x;
  const BlockRange in = map.Containing(t);
  for (int c = static_cast<int>(threadIdx.x); c < line; c += blockDim.x) {
    float sum = 0;
    for (int64_t i = in.begin; i < in.end; ++i) sum += Load(dy[i * line + c]);
    dx[t * line + c] = Store<T>(sum / static_cast<float>(map.block));
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
    const int64_t groups = args.x.dim(1), width = args.x.dim(2);
    if (groups == 0) return;
    const BlockMap map(args.cmp_tokens, {}, args.blocks.dim(0) / groups, args.block, args.stride);
    DispatchPack<T>(width, {args.x.data, args.pos.data, args.blocks.data}, [&](auto count) {
      LaunchGrid(GatherKernel<decltype(count)::value, T>, Rows(args.blocks.dim(0)), dim3(kThreads),
                 0, stream, args.x.As<T>(), args.pos.As<T>(), args.blocks.As<T>(), map,
                 static_cast<int>(groups), static_cast<int>(width));
    });
  });
}

void GatherBlocksBwd(const GatherBlocksBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.dx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t groups = args.dx.dim(1), width = args.dx.dim(2);
    if (groups == 0) return;
    const BlockMap map(args.cmp_tokens, args.token_blocks, args.dblocks.dim(0) / groups, args.block,
                       args.stride);
    DispatchPack<T>(width, {args.dblocks.data, args.dx.data}, [&](auto count) {
      LaunchGrid(GatherBackwardKernel<decltype(count)::value, T>, Rows(args.dx.dim(0)), dim3(128),
                 0, stream, args.dblocks.As<T>(), args.dx.As<T>(), map, static_cast<int>(groups),
                 static_cast<int>(width));
    });
    if (args.dpos.data != nullptr) PositionGradient<T>(args, stream);
  });
}

void BlockMeanFwd(const BlockMeanFwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const BlockMap map(args.cmp_tokens, {}, args.y.dim(0), args.block, args.stride);
    LaunchGrid(MeanKernel<T>, Rows(args.y.dim(0)), dim3(kThreads), 0, stream, args.x.As<T>(),
               args.y.As<T>(), map, static_cast<int>(args.x.dim(1) * args.x.dim(2)));
  });
}

void BlockMeanBwd(const BlockMeanBwdArgs& args, Stream stream) {
  DispatchDeviceFloat(args.dx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const BlockMap map({}, args.token_blocks, args.dy.dim(0), args.block, args.stride);
    LaunchGrid(MeanBackwardKernel<T>, Rows(args.dx.dim(0)), dim3(kThreads), 0, stream,
               args.dy.As<T>(), args.dx.As<T>(), map,
               static_cast<int>(args.dx.dim(1) * args.dx.dim(2)));
  });
}

}  // namespace lacuna::cuda
