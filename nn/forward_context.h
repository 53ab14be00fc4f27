// What a forward pass hands down to every module.
#pragma once

#include <cstdint>

#include "autograd/tape.h"
#include "core/packed_sequences.h"
#include "nn/context_share.h"

namespace lacuna {

class Metrics;

struct ForwardContext {
  Tape& tape;
  const PackedSequences& sequences;  // the documents of this micro-batch
  // Where modules report (router load, gates, ...); null where nothing may be reported.
  Metrics* metrics = nullptr;
  // Rows of a sample (sequence_length of the recipe): N = rows_per_sample * samples. Per-sequence
  // auxiliary losses use it. With `context`, this rank's rows of a sample.
  int64_t rows_per_sample = 0;
  // This micro-batch's share of a mean over all micro-batches of the global batch: 1 / (ranks *
  // micro-batches a rank).
  // A loss that is a mean over micro-batches (auxiliary losses) is scaled by it when its gradient
  // is injected.
  double micro_batch_share = 1.0;
  // Number of this micro-batch within the step, from 0.
  int64_t micro_batch = 0;
  // Whether two backward passes have to give the same bits, or may use faster kernels that do not.
  bool deterministic = true;

  // This rank's part of the micro-batch where a group of ranks shares it; `sequences` are those of
  // the whole micro-batch all the same.
  const ContextShare* context = nullptr;
  // False where nobody reads the value that the module returns, only gradients flow through it: the
  // module ends a segment, which runs forward for the second time. It then returns Tensor::Meta and
  // leaves out what only that value needs.
  bool output_is_read = true;

  // N, the rows that the model works on, and their positions within their documents.
  int64_t num_rows() const {
    return context == nullptr ? sequences.num_rows() : context->num_rows();
  }
  const Tensor& positions() const {
    return context == nullptr ? sequences.positions() : context->rows().positions();
  }
  // Null where all rows are here.
  const RowSubset* row_subset() const { return context == nullptr ? nullptr : &context->rows(); }

  Stream stream() const { return tape.stream(); }
  // Null in the second forward of a recomputed segment, so that nothing is reported twice.
  Metrics* reporting() const { return tape.recomputing() ? nullptr : metrics; }
};

}  // namespace lacuna
