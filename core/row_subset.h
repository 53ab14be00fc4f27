// Some rows of packed sequences, ascending: the queries of an attention whose keys are all rows. Their
// positions do not decrease within a document, which is all that ranges of keys ask for
// (core/ops/attention.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/packed_sequences.h"
#include "core/tensor.h"

namespace lacuna {

class RowSubset {
 public:
  // `name` tells it from other subsets of the same sequences, in what is derived from them
  // (PackedSequences::Derived). Tensors are on the sequences' device.
  RowSubset(const PackedSequences& sequences, std::vector<int32_t> rows, std::string name);

  int64_t num_rows() const { return static_cast<int64_t>(rows_.size()); }
  const std::vector<int32_t>& rows() const { return rows_; }
  const std::string& name() const { return name_; }
  const Tensor& positions() const { return positions_; }    // [n] i32 within their documents
  const Tensor& cu_seqlens() const { return cu_seqlens_; }  // [D + 1] i32, of these rows
  // Its rows of host values [N, columns]: [n, columns].
  Tensor Pick(const std::vector<int32_t>& values, int64_t columns) const;

 private:
  std::vector<int32_t> rows_;
  std::string name_;
  Tensor positions_, cu_seqlens_;
};

}  // namespace lacuna
