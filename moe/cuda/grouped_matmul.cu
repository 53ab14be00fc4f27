// Matrix products by expert. A block computes one tile of one expert's product; the arithmetic of a
// tile is in grouped_tensor_core.cuh (bf16) and grouped_fma.cuh (f32).
//
//   GroupedMatMul    tiles of rows x columns of y. A: rows of x, depth contiguous. B: matrix e,
//                    depth contiguous (w^T) or across (w, the gradient of x). The grid holds
//                    floor(R / 128) + min(E, R) row tiles, the most that E ragged experts can have;
//                    each block finds its expert in the offsets, those past the last tile return.
//                    Column tiles of the same rows are neighbours: the tiles that run together
//                    share one or two experts' matrices in L2.
//   GroupedMatMulDw  tiles of dw[e]: A = dy^T and B = x both stand across, the depth is the
//                    expert's rows. Every sum stays in one block: no partial sums, the same bits
//                    every time.
#include "core/cuda/launch.cuh"
#include "core/cuda/vector.cuh"
#include "moe/cuda/grouped_fma.cuh"
#include "moe/cuda/grouped_tensor_core.cuh"
#include "moe/cuda/hopper/products.h"
#include "moe/grouped_matmul.h"

namespace lacuna::cuda {
namespace {

template <class T>
struct RowsParams {
  const T *x, *w;
  ExpertOffsets offsets;
  T* y;
  int64_t rows;
  int experts, depth, columns, column_tiles;
  bool packable;  // rows of y
};

template <class Tile, bool kTransposeW>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksAMultiprocessor)
    RowsKernel(const RowsParams<typename Tile::T> p) {
  using T = typename Tile::T;
  extern __shared__ __align__(128) char shared[];
  const int column = static_cast<int>(blockIdx.x % p.column_tiles) * Tile::kN;
  const RowRange range = FindRows<Tile::kThreads, Tile::kM>(
      p.offsets, p.experts, p.rows, static_cast<int>(blockIdx.x / p.column_tiles));
  if (range.rows == 0) return;
  const T* w = p.w + static_cast<int64_t>(range.expert) * p.depth * p.columns +
               (kTransposeW ? static_cast<int64_t>(column) * p.depth : column);
  const TileProblem<T, T> problem = {
      {p.x + range.begin * p.depth, p.depth, range.rows},
      {w, kTransposeW ? p.depth : p.columns, min(Tile::kN, p.columns - column)},
      p.depth,
      p.y + range.begin * p.columns + column,
      p.columns,
      p.packable};
  Tile::template Run<true, kTransposeW, false>(problem, shared);
}

template <class T>
struct DwParams {
  const T *dy, *x;
  ExpertOffsets offsets;
  float* dw;
  int64_t rows;
  int out, in, row_tiles, column_tiles;
  bool packable;  // rows of dw
};

template <class Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kBlocksAMultiprocessor)
    DwKernel(const DwParams<typename Tile::T> p) {
  using T = typename Tile::T;
  extern __shared__ __align__(128) char shared[];
  const int column = static_cast<int>(blockIdx.x % p.column_tiles) * Tile::kN,
            tile = static_cast<int>(blockIdx.x / p.column_tiles),
            row = tile % p.row_tiles * Tile::kM, expert = tile / p.row_tiles;
  const RowRange range = RowsOf(p.offsets, expert, p.rows);
  if (range.rows == 0) return;
  const TileProblem<T, float> problem = {
      {p.dy + range.begin * p.out + row, p.out, min(Tile::kM, p.out - row)},
      {p.x + range.begin * p.in + column, p.in, min(Tile::kN, p.in - column)},
      range.rows,
      p.dw + (static_cast<int64_t>(expert) * p.out + row) * p.in + column,
      p.in,
      p.packable};
  Tile::template Run<false, false, true>(problem, shared);
}

// f(tile) with the tile for a product of `columns` columns; packed: all operands' rows are.
template <class T, class F>
void WithTile(bool packed, int64_t columns, F&& f) {
  if constexpr (std::is_same_v<T, float>) {
    f(FmaTile{});
  } else if (!packed) {
    f(TensorCoreTile<128, false>{});
  } else if (columns <= 128) {
    f(TensorCoreTile<128, true>{});
  } else {
    f(TensorCoreTile<256, true>{});
  }
}

int Tiles(int64_t n, int64_t tile) {
  return static_cast<int>((n + tile - 1) / tile);
}

template <class T>
void Rows(const GroupedMatMulArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), experts = args.w.dim(0), depth = args.x.dim(1),
                columns = args.y.dim(1);
  if (rows == 0 || experts == 0 || columns == 0) return;
  const bool packed = Packable<T>(args.x.data, depth) &&
                      Packable<T>(args.w.data, args.transpose_w ? depth : columns);
  WithTile<T>(packed, columns, [&](auto tile) {
    using Tile = decltype(tile);
    const RowsParams<T> params = {args.x.As<T>(),
                                  args.w.As<T>(),
                                  OffsetsOf(args.offsets, args.chunks, args.chunk),
                                  args.y.As<T>(),
                                  rows,
                                  static_cast<int>(experts),
                                  static_cast<int>(depth),
                                  static_cast<int>(columns),
                                  Tiles(columns, Tile::kN),
                                  Packable<T>(args.y.data, columns)};
    const int64_t row_tiles = rows / Tile::kM + std::min(experts, rows);
    const dim3 grid(static_cast<unsigned>(row_tiles * params.column_tiles));
    LaunchGrid(args.transpose_w ? RowsKernel<Tile, true> : RowsKernel<Tile, false>, grid,
               Tile::kThreads, Tile::kShared, stream, params);
  });
}

template <class T>
void Dw(const GroupedMatMulDwArgs& args, Stream stream) {
  const int64_t rows = args.x.dim(0), experts = args.dw.dim(0), out = args.dw.dim(1),
                in = args.dw.dim(2);
  if (rows == 0) return;
  const bool packed = Packable<T>(args.dy.data, out) && Packable<T>(args.x.data, in);
  WithTile<T>(packed, in, [&](auto tile) {
    using Tile = decltype(tile);
    const DwParams<T> params = {args.dy.As<T>(),
                                args.x.As<T>(),
                                OffsetsOf(args.offsets, args.chunks),
                                args.dw.As<float>(),
                                rows,
                                static_cast<int>(out),
                                static_cast<int>(in),
                                Tiles(out, Tile::kM),
                                Tiles(in, Tile::kN),
                                Packable<float>(args.dw.data, in)};
    const dim3 grid(static_cast<unsigned>(experts * params.row_tiles * params.column_tiles));
    LaunchGrid(DwKernel<Tile>, grid, Tile::kThreads, Tile::kShared, stream, params);
  });
}

}  // namespace

void GroupedMatMul(const GroupedMatMulArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::GroupedMatMul(args, stream);
  DispatchDeviceFloat(args.x.dtype,
                      [&](auto tag) { Rows<typename decltype(tag)::type>(args, stream); });
}

void GroupedMatMulDw(const GroupedMatMulDwArgs& args, Stream stream) {
  if (hopper::Supports(args, stream)) return hopper::GroupedMatMulDw(args, stream);
  if (!args.accumulate) {
    LACUNA_CUDA_CHECK(cudaMemsetAsync(args.dw.data, 0, static_cast<size_t>(args.dw.numel()) * 4,
                                      static_cast<cudaStream_t>(stream.handle)));
  }
  DispatchDeviceFloat(args.x.dtype,
                      [&](auto tag) { Dw<typename decltype(tag)::type>(args, stream); });
}

}  // namespace lacuna::cuda
