// Rows of a cache that grows: amortised doubling, one contiguous tensor.
#pragma once

#include "core/tensor.h"

namespace lacuna {

class GrowingRows {
 public:
  // Appends the rows of x [n, ...]; all calls have the same row shape and dtype.
  void Append(const Tensor& x);
  // Makes room for n more rows like those of `like` [m, ...] and counts them; somebody else sets them.
  void Extend(int64_t n, const Tensor& like);
  int64_t size() const { return size_; }
  // Address of the first row, for writing; null before the first row.
  void* data() { return buffer_.defined() ? buffer_.MutableRef().data : nullptr; }
  // The rows so far [size, ...]; undefined before the first Append.
  Tensor rows() const { return buffer_.defined() ? buffer_.Slice(0, size_) : Tensor(); }

 private:
  Tensor buffer_;
  int64_t size_ = 0;
};

}  // namespace lacuna
