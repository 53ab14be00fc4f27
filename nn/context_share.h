// Context parallelism: the ranks of a context group share every sample.
//
// A sample of T rows is cut into 2 C pieces of equal length, and rank c of C has pieces c and
// 2 C - 1 - c: where every token sees those before it, all ranks then have the same work. With C = 2:
//
//   sample      | piece 0 | piece 1 | piece 2 | piece 3 |
//   rank            0         1         1         0
//
// A rank's rows of a micro-batch stand in the micro-batch's order. What is done token by token is done
// on them; attention has them as queries, and as keys and values those of all ranks
// (nn/context_gather.h), so that documents may lie over pieces as they like.
#pragma once

#include <cstdint>
#include <vector>

#include "core/packed_sequences.h"
#include "core/row_subset.h"

namespace lacuna {

class Communicator;

// The rows of rank `rank` of `size` in a micro-batch of samples of `rows_per_sample`, for several ranks
// a multiple of 2 size: ascending.
std::vector<int32_t> RowsOfContextRank(int64_t rows, int64_t rows_per_sample, int size, int rank);

class ContextShare {
 public:
  // `sequences`: of the whole micro-batch, on the device. `group`: Mesh::context; it must outlive
  // this.
  ContextShare(const PackedSequences& sequences, int64_t rows_per_sample, Communicator& group);

  const RowSubset& rows() const { return rows_; }  // this rank's
  int64_t num_rows() const { return rows_.num_rows(); }
  Communicator& group() const { return group_; }
  // The group's rows lie rank by rank, or in the micro-batch's order, and change places by
  // y[i] = x[order[i]]: [N] i32 on the device.
  const Tensor& to_rank_order() const { return to_rank_order_; }
  const Tensor& to_micro_batch_order() const { return to_micro_batch_order_; }

  // The group's sum, in place.
  void Sum(Tensor& values) const;

 private:
  Communicator& group_;
  RowSubset rows_;
  Tensor to_rank_order_, to_micro_batch_order_;
};

}  // namespace lacuna
