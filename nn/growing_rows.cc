#include "nn/growing_rows.h"

#include <algorithm>

namespace lacuna {

void GrowingRows::Extend(int64_t n, const Tensor& like) {
  const int64_t needed = size_ + n;
  if (!buffer_.defined() || needed > buffer_.dim(0)) {
    Shape shape = like.shape();
    shape[0] = std::max<int64_t>({needed, 2 * size_, 64});
    Tensor larger = Tensor::Empty(shape, like.dtype(), like.device());
    if (size_ > 0) larger.Slice(0, size_).CopyFrom(buffer_.Slice(0, size_));
    buffer_ = larger;
  }
  size_ = needed;
}

void GrowingRows::Append(const Tensor& x) {
  const int64_t before = size_;
  Extend(x.dim(0), x);
  if (x.dim(0) > 0) buffer_.Slice(before, size_).CopyFrom(x);
}

}  // namespace lacuna
