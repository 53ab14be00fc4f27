// Tensors of one sequence of a decode step (core/ops/cache_rows.h), for operators of one sequence.
#pragma once

#include <algorithm>
#include <initializer_list>

#include "core/tensor_ref.h"

namespace lacuna::cpu {

inline TensorRef HostRef(void* data, std::initializer_list<int64_t> shape, DType dtype) {
  TensorRef ref;
  ref.data = data;
  ref.dtype = dtype;
  ref.rank = static_cast<int8_t>(shape.size());
  std::copy(shape.begin(), shape.end(), ref.shape);
  return ref;
}

class DecodeTables {
 public:
  DecodeTables(const TensorRef& tokens, const TensorRef& addresses)
      : tokens_(tokens), addresses_(addresses) {}
  int64_t size() const { return tokens_.dim(0); }
  int64_t position(int64_t b) const { return tokens_.As<int32_t>()[4 * b + 1]; }
  int32_t* position_address(int64_t b) const { return tokens_.As<int32_t>() + 4 * b + 1; }
  // The token's row of x [N, ...], as a tensor of one row.
  TensorRef TokenRow(TensorRef x, int64_t b) const {
    x.shape[0] = 1;
    x.data = x.As<char>() + tokens_.As<int32_t>()[4 * b] * x.numel() * SizeOf(x.dtype);
    return x;
  }
  TensorRef Cache(int64_t b, int column, std::initializer_list<int64_t> shape, DType dtype) const {
    const int64_t row = tokens_.As<int32_t>()[4 * b + 2];
    return HostRef(
        reinterpret_cast<void*>(addresses_.As<int64_t>()[row * addresses_.dim(1) + column]), shape,
        dtype);
  }

 private:
  TensorRef tokens_, addresses_;
};

// The ranges and row numbers of a query that sees all of `keys` keys.
class OneQuery {
 public:
  explicit OneQuery(int64_t keys) : keys_{0, static_cast<int32_t>(keys)} {}
  TensorRef ranges() { return HostRef(keys_, {1, 2}, DType::kI32); }
  TensorRef ranges_flat() { return HostRef(keys_, {2}, DType::kI32); }
  TensorRef cu_queries() { return HostRef(query_, {2}, DType::kI32); }

 private:
  int32_t keys_[2], query_[2] = {0, 1};
};

}  // namespace lacuna::cpu
