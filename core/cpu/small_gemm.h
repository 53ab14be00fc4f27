// Small matrix products in registers, for the inside of attention tiles (a BLAS call costs more
// than such a product).
#pragma once

#include <cstdint>
#include <cstring>

namespace lacuna::cpu {

namespace internal {

// Bytes of a vector register.
#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};

template <class V, class T>
inline V Load(const T* address) {
  V value;
  std::memcpy(&value, address, sizeof(V));
  return value;
}

// c[kRows, kVectors * lanes] += a b for one register tile: kRows * kVectors accumulators, one
// broadcast of a feeding kVectors fmas.
template <class T, int kRows, int kVectors>
inline void RegisterTile(int64_t depth, const T* a, int64_t a_row, int64_t a_column, const T* b,
                         int64_t b_row, T* c, int64_t c_row) {
  using V = typename VectorOf<T>::type;
  constexpr int kLanes = kVectorBytes / sizeof(T);
  V sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sum[r][v] = Load<V>(c + r * c_row + v * kLanes);
  }
  for (int64_t p = 0; p < depth; ++p) {
    V line[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) line[v] = Load<V>(b + p * b_row + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T factor = a[r * a_row + p * a_column];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[r][v] += factor * line[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      std::memcpy(c + r * c_row + v * kLanes, &sum[r][v], sizeof(V));
  }
}

template <class T, int kRows>
inline void RowPanel(int64_t columns, int64_t depth, const T* a, int64_t a_row, int64_t a_column,
                     const T* b, int64_t b_row, T* c, int64_t c_row) {
  constexpr int64_t kLanes = kVectorBytes / sizeof(T);
  int64_t j = 0;
  for (; j + 3 * kLanes <= columns; j += 3 * kLanes)
    RegisterTile<T, kRows, 3>(depth, a, a_row, a_column, b + j, b_row, c + j, c_row);
  if (j + 2 * kLanes <= columns) {
    RegisterTile<T, kRows, 2>(depth, a, a_row, a_column, b + j, b_row, c + j, c_row);
    j += 2 * kLanes;
  }
  if (j + kLanes <= columns) {
    RegisterTile<T, kRows, 1>(depth, a, a_row, a_column, b + j, b_row, c + j, c_row);
    j += kLanes;
  }
  // The last columns, fewer than a vector.
  for (int tail = 0; tail < kLanes && j + tail < columns; ++tail) {
    for (int r = 0; r < kRows; ++r) {
      T sum = c[r * c_row + j + tail];
      for (int64_t p = 0; p < depth; ++p)
        sum += a[r * a_row + p * a_column] * b[p * b_row + j + tail];
      c[r * c_row + j + tail] = sum;
    }
  }
}

}  // namespace internal

// c[rows, columns] += a[rows, depth] b[depth, columns]. a is read element by element, so it may be
// transposed: element (i, p) is a[i * a_row + p * a_column]; b and c are row-major with row strides
// b_row and c_row. Sums over p ascending.
template <class T>
void SmallGemm(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t a_row,
               int64_t a_column, const T* b, int64_t b_row, T* c, int64_t c_row) {
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4)
    internal::RowPanel<T, 4>(columns, depth, a + i * a_row, a_row, a_column, b, b_row,
                             c + i * c_row, c_row);
  for (; i < rows; ++i)
    internal::RowPanel<T, 1>(columns, depth, a + i * a_row, a_row, a_column, b, b_row,
                             c + i * c_row, c_row);
}

}  // namespace lacuna::cpu
