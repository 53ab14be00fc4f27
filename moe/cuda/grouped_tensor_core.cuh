// Tiles of bf16 products on the tensor cores (mma.m16n8k16, f32 sums).
//
//   block tile   128 x kN (kN = 128 or 256), depth in slices of 64
//   warps        2 x kN / 64, each 64 x 64 of the block tile: 4 x 8 fragments, 128 sums a thread.
//                64 x 64 is what keeps ldmatrix below the rate of the tensor cores.
//   shared       kStages slices of A and B as they stand in memory, in rows of 16-byte pieces:
//                depth contiguous [rows][64], across [64][rows]. Piece p of row r lies at place
//                p ^ (r % 8), so that neither the copies nor ldmatrix (eight rows, one piece each)
//                meet in a bank. Across operands go through ldmatrix.trans.
//   pipeline     copies (cp.async) run kStages - 1 slices ahead, fragments one step of 16 ahead of
//                the products. One barrier a slice: behind it the next slice has landed everywhere
//                and the one before it is read no more.
//   edges        pieces outside are filled with zeros. Rows that are no multiple of 8 elements go
//                through registers, element by element (kPacked = false).
//   bf16 output  goes through shared memory, so that rows are stored 16 bytes a lane.
#pragma once

#include "core/cuda/launch.cuh"
#include "core/cuda/tensor_core.cuh"
#include "core/cuda/vector.cuh"
#include "moe/cuda/grouped_tile.cuh"

namespace lacuna::cuda {

template <int kColumns, bool kPacked>
struct TensorCoreTile {
  using T = BFloat16;
  static constexpr int kM = 128, kN = kColumns, kDepth = 64, kStages = 3;
  static constexpr int kWarpsM = kM / 64, kWarpsN = kN / 64, kThreads = kWarpsM * kWarpsN * kWarp;
  static constexpr int kBlocksAMultiprocessor = kThreads == 128 ? 2 : 1;
  static constexpr int kABytes = kM * kDepth * 2, kStageBytes = kABytes + kN * kDepth * 2;
  static constexpr int kShared = kStages * kStageBytes;
  static constexpr int kSteps = kDepth / 16;
  // of the output in shared memory; the odd number of pieces keeps fragment rows in other banks
  static constexpr int kOutStride = kN + 8;
  static_assert(kM * kOutStride * 2 <= kShared && kSteps % 2 == 0);

  struct Fragments {
    uint32_t a[4][4];  // of 16 rows each
    uint32_t b[4][4];  // of 16 columns each: b0 b1 of the first 8, b0 b1 of the second
  };

  // A thread's part in copying the slices of an operand of kWidth rows or columns, one after the
  // other: one piece of every kApart-th row. It keeps one address and steps it, since an address a
  // row would not fit in the registers.
  template <bool kDepthContiguous, int kWidth>
  struct SliceCopy {
    static constexpr int kPieces = (kDepthContiguous ? kDepth : kWidth) / 8,
                         kRows = kDepthContiguous ? kWidth : kDepth, kApart = kThreads / kPieces;
    static_assert(kThreads % kPieces == 0 && kApart % 8 == 0 && kRows % kApart == 0);

    __device__ SliceCopy(const Operand<T>& in, int depth) : stride(in.stride) {
      const int row = threadIdx.x / kPieces, piece = threadIdx.x % kPieces;
      source = in.data + static_cast<int64_t>(row) * stride + piece * 8;
      rows_left = (kDepthContiguous ? in.count : depth) - row;
      columns_left = (kDepthContiguous ? depth : in.count) - piece * 8;
      target = (row * kPieces + (piece ^ (row % 8))) * 16;
    }

    __device__ void Next(uint32_t shared) {
      const T* at = source;
#pragma unroll
      for (int i = 0; i < kRows / kApart; ++i, at += static_cast<int64_t>(kApart) * stride) {
        const bool row_there = rows_left > i * kApart;
        const uint32_t to = shared + target + i * kApart * kPieces * 16;
        if constexpr (kPacked) {
          CopyAsync16(to, at, row_there && columns_left > 0);
        } else {
          CopyElements(to, at, row_there ? columns_left : 0);
        }
      }
      if constexpr (kDepthContiguous) {
        source += kDepth;
        columns_left -= kDepth;
      } else {
        source += static_cast<int64_t>(kDepth) * stride;
        rows_left -= kDepth;
      }
    }

    const T* source;
    int stride, rows_left, columns_left;
    uint32_t target;
  };

  // The first `there` of 8 elements, the others zero.
  static __device__ void CopyElements(uint32_t target, const T* source, int there) {
    uint32_t pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t low = 2 * j < there ? source[2 * j].bits : 0u,
                     high = 2 * j + 1 < there ? source[2 * j + 1].bits : 0u;
      pairs[j] = low | high << 16;
    }
    StoreShared16(target, make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]));
  }

  // The fragments of step `step` of the slice at `stage`; (warp_m, warp_n) is the warp's place.
  template <bool kADepthContiguous, bool kBDepthContiguous>
  static __device__ void LoadFragments(Fragments& f, uint32_t stage, int step, int warp_m,
                                       int warp_n) {
    const int lane = threadIdx.x % kWarp, low = lane % 8, second = lane / 8 % 2, upper = lane / 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kADepthContiguous) {  // matrices: rows, rows + 8, then the same at depth + 8
        const int row = warp_m * 64 + i * 16 + second * 8 + low, piece = step * 2 + upper;
        LoadMatrices<false>(f.a[i], stage + (row * (kDepth / 8) + (piece ^ low)) * 16);
      } else {
        const int k = step * 16 + upper * 8 + low, piece = warp_m * 8 + i * 2 + second;
        LoadMatrices<true>(f.a[i], stage + (k * (kM / 8) + (piece ^ low)) * 16);
      }
    }
    const uint32_t b = stage + kABytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // matrices: depth, depth + 8, then the same at column + 8
      if constexpr (kBDepthContiguous) {
        const int column = warp_n * 64 + i * 16 + upper * 8 + low, piece = step * 2 + second;
        LoadMatrices<false>(f.b[i], b + (column * (kDepth / 8) + (piece ^ low)) * 16);
      } else {
        const int k = step * 16 + second * 8 + low, piece = warp_n * 8 + i * 2 + upper;
        LoadMatrices<true>(f.b[i], b + (k * (kN / 8) + (piece ^ low)) * 16);
      }
    }
  }

  static __device__ void Multiply(float (&sum)[4][8][4], const Fragments& f) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j)
        MultiplyAdd16816(sum[i][j], f.a[i], f.b[j / 2][j % 2 * 2], f.b[j / 2][j % 2 * 2 + 1]);
    }
  }

  static __device__ void StoreOut(float (&sum)[4][8][4], const TileProblem<T, BFloat16>& p,
                                  char* shared, int row0, int column0) {
    __syncthreads();  // all fragments are read
    BFloat16* const staged = reinterpret_cast<BFloat16*>(shared);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        BFloat16* const at = staged + (row0 + i * 16) * kOutStride + column0 + j * 8;
        *reinterpret_cast<uint32_t*>(at) = PackBFloat16(sum[i][j][0], sum[i][j][1]);
        *reinterpret_cast<uint32_t*>(at + 8 * kOutStride) =
            PackBFloat16(sum[i][j][2], sum[i][j][3]);
      }
    }
    __syncthreads();
    constexpr int kPieces = kN / 8;
    for (int index = threadIdx.x; index < kM * kPieces; index += kThreads) {
      const int row = index / kPieces, column = index % kPieces * 8;
      if (row >= p.a.count || column >= p.b.count) continue;
      const Pack<BFloat16> piece = LoadPack(staged + row * kOutStride + column);
      BFloat16* const out = p.out + static_cast<int64_t>(row) * p.out_stride + column;
      if (p.out_packable && column + 8 <= p.b.count) {
        StorePack(out, piece);
      } else {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          if (column + j < p.b.count) out[j] = piece.value[j];
        }
      }
    }
  }

  // out += sums. Four lanes cover 32 bytes of a row, a whole sector.
  static __device__ void StoreOut(float (&sum)[4][8][4], const TileProblem<T, float>& p, char*,
                                  int row0, int column0) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {  // 8 rows each
      const int row = row0 + i * 8;
      if (row >= p.a.count) continue;
      float* const out = p.out + static_cast<int64_t>(row) * p.out_stride + column0;
      float2 before[8];
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int column = column0 + j * 8;
        before[j] = make_float2(0, 0);
        if (p.out_packable && column + 1 < p.b.count) {
          before[j] = __ldcs(reinterpret_cast<const float2*>(out + j * 8));
        } else {
          if (column < p.b.count) before[j].x = out[j * 8];
          if (column + 1 < p.b.count) before[j].y = out[j * 8 + 1];
        }
      }
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int column = column0 + j * 8;
        const float2 after = make_float2(before[j].x + sum[i / 2][j][i % 2 * 2],
                                         before[j].y + sum[i / 2][j][i % 2 * 2 + 1]);
        if (p.out_packable && column + 1 < p.b.count) {
          __stcs(reinterpret_cast<float2*>(out + j * 8), after);
        } else {
          if (column < p.b.count) out[j * 8] = after.x;
          if (column + 1 < p.b.count) out[j * 8 + 1] = after.y;
        }
      }
    }
  }

  // Sets bf16 outputs, adds to f32 ones.
  template <bool kADepthContiguous, bool kBDepthContiguous, bool kAccumulate, class Out>
  static __device__ void Run(const TileProblem<T, Out>& p, char* shared) {
    static_assert(kAccumulate == std::is_same_v<Out, float>);
    const uint32_t base = SharedAddress(shared);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, warp_m = warp % kWarpsM,
              warp_n = warp / kWarpsM;
    SliceCopy<kADepthContiguous, kM> copy_a(p.a, p.depth);
    SliceCopy<kBDepthContiguous, kN> copy_b(p.b, p.depth);
    const auto copy_next = [&](int stage) {
      copy_a.Next(base + stage * kStageBytes);
      copy_b.Next(base + stage * kStageBytes + kABytes);
    };
    const auto load = [&](Fragments& f, int stage, int step) {
      LoadFragments<kADepthContiguous, kBDepthContiguous>(f, base + stage * kStageBytes, step,
                                                          warp_m, warp_n);
    };
    float sum[4][8][4] = {};
    Fragments fragments[2];
    const int slices = (p.depth + kDepth - 1) / kDepth;
#pragma unroll
    for (int s = 0; s < kStages - 1; ++s) {
      if (s < slices) copy_next(s);
      CommitCopies();  // empty or not: waiting counts groups
    }
    WaitCopies<kStages - 2>();
    __syncthreads();
    load(fragments[0], 0, 0);
    int reads = 0, writes = kStages - 1;
    for (int slice = 0; slice < slices; ++slice) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        if (step == kSteps - 1) {
          WaitCopies<kStages - 2>();
          __syncthreads();
          reads = reads + 1 == kStages ? 0 : reads + 1;
        }
        load(fragments[(step + 1) % 2], reads, (step + 1) % kSteps);
        if (step == 0) {
          if (slice + kStages - 1 < slices) copy_next(writes);
          CommitCopies();
          writes = writes + 1 == kStages ? 0 : writes + 1;
        }
        Multiply(sum, fragments[step % 2]);
      }
    }
    WaitCopies<0>();
    StoreOut(sum, p, shared, warp_m * 64 + lane / 4, warp_n * 64 + lane % 4 * 2);
  }
};

}  // namespace lacuna::cuda
