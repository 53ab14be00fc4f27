// The documents of a micro-batch, one after the other in N rows. Every attention and every NSA grid
// restarts at a document.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace lacuna {

class PackedSequences {
 public:
  // cu_seqlens: D + 1 non-decreasing row numbers, first 0, last N; document i is rows [cu[i], cu[i
  // + 1]).
  explicit PackedSequences(std::vector<int32_t> cu_seqlens);
  // One document of `tokens` rows.
  static PackedSequences Single(int64_t tokens);

  int64_t num_rows() const { return host_cu_seqlens_.back(); }
  int64_t num_documents() const { return static_cast<int64_t>(host_cu_seqlens_.size()) - 1; }
  int64_t max_length() const { return max_length_; }
  const std::vector<int32_t>& host_cu_seqlens() const { return host_cu_seqlens_; }
  const Tensor& cu_seqlens() const { return cu_seqlens_; }  // [D + 1] i32
  const Tensor& positions() const { return positions_; }    // [N] i32, restart at every document

 private:
  std::vector<int32_t> host_cu_seqlens_;
  int64_t max_length_ = 0;
  Tensor cu_seqlens_;
  Tensor positions_;
};

}  // namespace lacuna
