// Rows of a cache that grows: amortised doubling, one contiguous tensor.
#pragma once

#include "core/tensor.h"

namespace lacuna {

class GrowingRows {
 public:
  // Appends the rows of x [n, ...]; all calls have the same row shape and dtype.
  void Append(const Tensor& x);
  int64_t size() const { return size_; }
  // The rows so far [size, ...]; undefined before the first Append.
  Tensor rows() const { return buffer_.defined() ? buffer_.Slice(0, size_) : Tensor(); }

 private:
  Tensor buffer_;
  int64_t size_ = 0;
};

}  // namespace lacuna
