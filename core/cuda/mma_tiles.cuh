// Products of tiles in shared memory, a warp at a time: C [16, 8 tiles] += A [16, K] B [K, 8 tiles].
// bf16 goes through the tensor cores (mma.sync m16n8k16, f32 sums), f32 through FMA. Both keep C in
// the same registers, so kernels are written once:
//
//   c[i][0], c[i][1]   row lane / 4,      columns 8 i + 2 (lane % 4), and the next
//   c[i][2], c[i][3]   row lane / 4 + 8,  the same columns
//
// Rows of a tile are `stride` elements apart: the width rounded up to kWidthUnit, and 16 bytes more,
// so that eight rows lie in different banks. Whatever is beyond the width or the last row is zero.
#pragma once

#include <cuda_pipeline_primitives.h>

#include <cfloat>
#include <cmath>

#include "core/cuda/fragments.cuh"
#include "core/cuda/launch.cuh"
#include "core/cuda/vector.cuh"

namespace lacuna::cuda {

inline constexpr int kWidthUnit = 32;

__host__ __device__ constexpr int PaddedWidth(int width) {
  return (width + kWidthUnit - 1) / kWidthUnit * kWidthUnit;
}
template <class T>
__host__ __device__ constexpr int TileStride(int width) {
  return PaddedWidth(width) + kVector<T>;
}

// How B lies in memory: kColumns has element (k, n) at b[n * stride + k] (rows are columns of B),
// kRows at b[k * stride + n].
enum class LayoutB { kColumns, kRows };

namespace internal {

template <bool kTranspose>
__device__ void LoadMatrices(uint32_t (&r)[4], const void* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTranspose) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  }
}

__device__ inline void Mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace internal

// The first `tiles` (even) of the kTiles column tiles; `depth` is a multiple of 16. All lanes of the
// warp call it.
template <LayoutB kLayout, int kTiles>
__device__ void WarpProduct(float (&c)[kTiles][4], int tiles, int depth, const BFloat16* a,
                            int a_stride, const BFloat16* b, int b_stride) {
  static_assert(kTiles % 2 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const BFloat16* a_row = a + lane % 16 * a_stride + lane / 16 * 8;
  // Two column tiles at once: four 8 x 8 matrices, the two halves of the depth first.
  const int along = lane / 8 % 2 * 8, across = lane / 16 * 8;
  const BFloat16* b_row = kLayout == LayoutB::kColumns ? b + (across + lane % 8) * b_stride + along
                                                       : b + (along + lane % 8) * b_stride + across;
  for (int k = 0; k < depth; k += 16) {
    uint32_t fragment[4];
    internal::LoadMatrices<false>(fragment, a_row + k);
#pragma unroll
    for (int i = 0; i < kTiles; i += 2) {
      if (i >= tiles) break;
      uint32_t pair[4];
      if constexpr (kLayout == LayoutB::kColumns) {
        internal::LoadMatrices<false>(pair, b_row + 8 * i * b_stride + k);
      } else {
        internal::LoadMatrices<true>(pair, b_row + k * b_stride + 8 * i);
      }
      internal::Mma(c[i], fragment, pair[0], pair[1]);
      internal::Mma(c[i + 1], fragment, pair[2], pair[3]);
    }
  }
}

template <LayoutB kLayout, int kTiles>
__device__ void WarpProduct(float (&c)[kTiles][4], int tiles, int depth, const float* a,
                            int a_stride, const float* b, int b_stride) {
  const float* a_row = a + FragmentRow() * a_stride;
  const int column = FragmentColumn();
  for (int k = 0; k < depth; ++k) {
    const float a0 = a_row[k], a1 = a_row[8 * a_stride + k];
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
      if (i >= tiles) break;
      const int n = 8 * i + column;
      float b0, b1;
      if constexpr (kLayout == LayoutB::kColumns) {
        b0 = b[n * b_stride + k];
        b1 = b[(n + 1) * b_stride + k];
      } else {
        b0 = b[k * b_stride + n];
        b1 = b[k * b_stride + n + 1];
      }
      c[i][0] = fmaf(a0, b0, c[i][0]);
      c[i][1] = fmaf(a0, b1, c[i][1]);
      c[i][2] = fmaf(a1, b0, c[i][2]);
      c[i][3] = fmaf(a1, b1, c[i][3]);
    }
  }
}

template <int kTiles>
__device__ void Clear(float (&c)[kTiles][4]) {
#pragma unroll
  for (int i = 0; i < kTiles; ++i) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
}

// Starts to copy `rows` rows of `width` elements to a tile; source(r) is the address of row r, null
// for a row of zeros. `packed`: rows are whole, aligned 16-byte packs (Packable). The copies are
// there after FinishLoads() and a barrier.
template <class T, class Source>
__device__ void StartLoad(T* tile, int width, int rows, bool packed, Source&& source) {
  const int padded = PaddedWidth(width), stride = TileStride<T>(width);
  if (packed) {
    const int packs = padded / kVector<T>;
    for (int i = static_cast<int>(threadIdx.x); i < rows * packs; i += blockDim.x) {
      const int r = i / packs, column = i % packs * kVector<T>;
      const T* row = source(r);
      T* to = tile + r * stride + column;
      const bool real = row != nullptr && column < width;
      if (real) {
        __pipeline_memcpy_async(to, row + column, 16);
      } else {
        *reinterpret_cast<uint4*>(to) = uint4{0, 0, 0, 0};
      }
    }
    return;
  }
  for (int i = static_cast<int>(threadIdx.x); i < rows * padded; i += blockDim.x) {
    const int r = i / padded, column = i % padded;
    const T* row = source(r);
    tile[r * stride + column] = row != nullptr && column < width ? row[column] : Store<T>(0.0f);
  }
}
__device__ inline void FinishLoads() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

// Two neighbouring elements of a tile or a row in memory; `both` is false for the last of an odd
// width.
template <class T>
__device__ void StorePair(T* to, float a, float b) {
  to[0] = Store<T>(a);
  to[1] = Store<T>(b);
}
template <>
__device__ inline void StorePair<BFloat16>(BFloat16* to, float a, float b) {
  const uint32_t pair =
      static_cast<uint32_t>(BFloat16(a).bits) | static_cast<uint32_t>(BFloat16(b).bits) << 16;
  *reinterpret_cast<uint32_t*>(to) = pair;
}
// Columns [column, column + 2) of a row of `width`, as far as they are in it.
template <class T>
__device__ void StoreColumns(T* row, int column, int width, float a, float b) {
  if (column + 1 < width && width % 2 == 0) {
    StorePair(row + column, a, b);
  } else {
    if (column < width) row[column] = Store<T>(a);
    if (column + 1 < width) row[column + 1] = Store<T>(b);
  }
}
// The same, or added to what is there.
template <class T>
__device__ void PutColumns(bool add, T* row, int column, int width, float a, float b) {
  if (add && column < width) a += Load(row[column]);
  if (add && column + 1 < width) b += Load(row[column + 1]);
  StoreColumns(row, column, width, a, b);
}

}  // namespace lacuna::cuda
