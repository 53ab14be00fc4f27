// Inputs and outputs of the benchmark's attention rows, one document, and the calls on them.
#pragma once

#include <memory>
#include <optional>

#include "autograd/functions/attention.h"
#include "nsa/nsa_grid.h"
#include "recipes/benchmark/benchmark_row.h"
#include "recipes/benchmark/block_lists.h"

namespace lacuna {

// Of one branch; what it attends to is beside it in `ranges` or `blocks`.
struct AttentionSet {
  Tensor q, k, v, o, lse, d_o, dq, dk, dv;
  AttentionRanges ranges;
  Tensor blocks;
  std::shared_ptr<const NsaGrid> grid;  // of NSA's branches
};

// Random numbers in bf16; ranges, blocks and grid are left to the caller.
AttentionSet MakeAttention(const ModelConfig& model, int64_t queries, int64_t keys, Device device,
                           uint64_t seed);
// The compression branch after its forward, with room for the lists.
AttentionSet MakeCompressed(const BenchSizes& sizes, Device device, uint64_t seed);
// The selection branch, with the lists of the sizes' pattern.
AttentionSet MakeSelected(const BenchSizes& sizes, Device device, uint64_t seed);

void Forward(AttentionSet& s, Stream stream);
void Backward(AttentionSet& s, Stream stream);
void SelectedForward(AttentionSet& s, const NsaConfig& nsa, Stream stream);
void SelectedBackward(AttentionSet& s, const NsaConfig& nsa, Stream stream);
// The lists that a compressed set's branch chooses for its queries, of random numbers.
void Select(AttentionSet& s, const NsaConfig& nsa, Stream stream);

// The pattern's lists where they are given and not chosen.
std::optional<BlockLists> GivenLists(const BenchSizes& sizes);
// What the queries of rows with this pattern read.
ListStatistics MeasureLists(const BenchSizes& sizes, Device device);

}  // namespace lacuna
