// The paper's layers as rows of `lacuna bench cuda`: attention with its projections (full and NSA),
// the mixture of experts (of four times as many tokens, too) and the block of the two, forward and
// forward + backward, one document of `tokens` tokens.
#pragma once

#include <vector>

#include "recipes/benchmark/benchmark_row.h"

namespace lacuna {

// FLOPs of a backward pass count as two forward passes; NSA's second scoring of the compressed
// blocks, which chooses, does not count. Routing is the router's own.
std::vector<BenchRow> LayerRows(const BenchSizes& sizes, Device device);

}  // namespace lacuna
