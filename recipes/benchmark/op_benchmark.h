// The operators of a training step as rows of `lacuna bench cuda`, at the sizes of the paper's
// layer, in bf16.
#pragma once

#include <cstdint>
#include <vector>

#include "recipes/benchmark/benchmark_row.h"

namespace lacuna {

std::vector<BenchRow> OpRows(const BenchSizes& sizes, Device device);

// What OpRows is put together from: core/ops, moe/, nsa/, and attention of both.
void AddCoreRows(const BenchSizes& sizes, Device device, BenchRows& rows);
void AddMoeRows(const BenchSizes& sizes, Device device, BenchRows& rows);
void AddNsaRows(const BenchSizes& sizes, Device device, BenchRows& rows);
void AddAttentionRows(const BenchSizes& sizes, Device device, BenchRows& rows);
// NSA from projected, rotated and compressed inputs to the gated sum, on a tape.
void AddNsaCoreRows(const BenchSizes& sizes, Device device, BenchRows& rows);
// A decode step's attention at the end of a cache.
void AddDecodeRows(const BenchSizes& sizes, Device device, BenchRows& rows);
// Rows of keys and values that such a step of NSA reads, of each group.
int64_t TokensOfDecodeStep(const NsaConfig& nsa, int64_t context);

// Memory of the head and its loss (autograd/functions/linear_cross_entropy.h), forward and
// backward, beyond hidden states, weight and weight gradient.
struct LossMemory {
  int64_t tokens = 0;
  int64_t extra_bytes = 0;   // most at once, the gradient of the hidden states included
  int64_t logits_bytes = 0;  // what the logits of all tokens would take
};
LossMemory MeasureLossMemory(const BenchSizes& sizes, int64_t tokens, Device device);

}  // namespace lacuna
