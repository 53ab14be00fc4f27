// What a forward pass hands down to every module.
#pragma once

#include <cstdint>

#include "autograd/tape.h"
#include "core/packed_sequences.h"

namespace lacuna {

class Metrics;

struct ForwardContext {
  Tape& tape;
  const PackedSequences& sequences;  // the documents of this micro-batch
  // Where modules report (router load, gates, ...); null where nothing may be reported.
  Metrics* metrics = nullptr;
  // Rows of a sample (sequence_length of the recipe): N = rows_per_sample * samples. Per-sequence
  // auxiliary losses use it.
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

  Stream stream() const { return tape.stream(); }
  // Null in the second forward of a recomputed segment, so that nothing is reported twice.
  Metrics* reporting() const { return tape.recomputing() ? nullptr : metrics; }
};

}  // namespace lacuna
