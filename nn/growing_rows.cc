#include "nn/growing_rows.h"

#include <algorithm>

namespace lacuna {

void GrowingRows::Append(const Tensor& x) {
  const int64_t needed = size_ + x.dim(0);
  if (!buffer_.defined() || needed > buffer_.dim(0)) {
    Shape shape = x.shape();
    shape[0] = std::max<int64_t>({needed, 2 * size_, 64});
    Tensor larger = Tensor::Empty(shape, x.dtype(), x.device());
    if (size_ > 0) larger.Slice(0, size_).CopyFrom(buffer_.Slice(0, size_));
    buffer_ = larger;
  }
  if (x.dim(0) > 0) buffer_.Slice(size_, needed).CopyFrom(x);
  size_ = needed;
}

}  // namespace lacuna
