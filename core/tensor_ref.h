// A tensor as kernels see it: an address, a shape and row-major contiguous storage. POD only: CUDA
// sources include this header.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"

namespace lacuna {

inline constexpr int kMaxRank = 6;

struct TensorRef {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Device device;
  int8_t rank = 0;
  int64_t shape[kMaxRank] = {};

  // True where an optional argument was given. (A tensor without elements is given, too.)
  bool defined() const { return rank > 0; }
  // Size along `dim`; negative counts from the last.
  int64_t dim(int dim) const { return shape[dim < 0 ? dim + rank : dim]; }
  int64_t numel() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= shape[i];
    return n;
  }
  template <class T>
  T* As() const {
    return static_cast<T*>(data);
  }
};

}  // namespace lacuna
