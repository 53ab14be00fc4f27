#include "core/packed_sequences.h"

#include <algorithm>

namespace lacuna {

PackedSequences::PackedSequences(std::vector<int32_t> cu_seqlens)
    : host_cu_seqlens_(std::move(cu_seqlens)) {
  LACUNA_CHECK(!host_cu_seqlens_.empty() && host_cu_seqlens_.front() == 0,
               "cu_seqlens must start with 0");
  // Grown and not sized beforehand: the last entry is the number of rows only once none has fallen.
  std::vector<int32_t> positions;
  for (size_t i = 0; i + 1 < host_cu_seqlens_.size(); ++i) {
    const int32_t begin = host_cu_seqlens_[i], end = host_cu_seqlens_[i + 1];
    LACUNA_CHECK(begin <= end, "cu_seqlens falls from {} to {} at {}", begin, end, i);
    for (int32_t row = begin; row < end; ++row) positions.push_back(row - begin);
    max_length_ = std::max<int64_t>(max_length_, end - begin);
    if (end > begin) ++length_classes_.of_class[LengthClassOf(end - begin)];
  }
  cu_seqlens_ =
      Tensor::FromVector(host_cu_seqlens_, {static_cast<int64_t>(host_cu_seqlens_.size())});
  positions_ = Tensor::FromVector(positions, {num_rows()});
}

PackedSequences PackedSequences::Single(int64_t tokens) {
  return PackedSequences({0, static_cast<int32_t>(tokens)});
}

PackedSequences PackedSequences::To(Device device) const {
  PackedSequences there = *this;
  there.cu_seqlens_ = cu_seqlens_.To(device);
  there.positions_ = positions_.To(device);
  there.derived_ = std::make_shared<DerivedMap>();
  return there;
}

}  // namespace lacuna
