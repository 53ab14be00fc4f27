#include "recipes/benchmark/attention_set.h"

#include <cmath>

#include "core/ops/attention.h"
#include "core/stream.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"
#include "recipes/benchmark/benchmark_inputs.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double Scale(const AttentionSet& s) {
  return 1 / std::sqrt(static_cast<double>(s.q.dim(2)));
}

}  // namespace

AttentionSet MakeAttention(const ModelConfig& m, int64_t queries, int64_t keys, Device device,
                           uint64_t seed) {
  const Tensor q = NormalTensor({queries, m.num_heads, m.head_dim_qk}, kType, device, 4 * seed),
               k = NormalTensor({keys, m.num_groups, m.head_dim_qk}, kType, device, 4 * seed + 1),
               v = NormalTensor({keys, m.num_groups, m.head_dim_v}, kType, device, 4 * seed + 2),
               d_o =
                   NormalTensor({queries, m.num_heads, m.head_dim_v}, kType, device, 4 * seed + 3);
  return {.q = q,
          .k = k,
          .v = v,
          .o = Tensor::EmptyLike(d_o),
          .lse = Tensor::Empty({queries, m.num_heads}, DType::kF32, device),
          .d_o = d_o,
          .dq = Tensor::EmptyLike(q),
          .dk = Tensor::EmptyLike(k),
          .dv = Tensor::EmptyLike(v),
          .ranges = {},
          .blocks = {},
          .grid = {}};
}

void Forward(AttentionSet& s, Stream stream) {
  ops::AttentionFwd({.q = s.q.Ref(),
                     .k = s.k.Ref(),
                     .v = s.v.Ref(),
                     .ranges = s.ranges.ranges.Ref(),
                     .cu_queries = s.ranges.cu_queries.Ref(),
                     .cu_keys = s.ranges.cu_keys.Ref(),
                     .o = s.o.MutableRef(),
                     .lse = s.lse.MutableRef(),
                     .scale = Scale(s),
                     .causal = s.ranges.causal},
                    stream);
}

void Backward(AttentionSet& s, Stream stream) {
  ops::AttentionBwd({.q = s.q.Ref(),
                     .k = s.k.Ref(),
                     .v = s.v.Ref(),
                     .ranges = s.ranges.ranges.Ref(),
                     .cu_queries = s.ranges.cu_queries.Ref(),
                     .cu_keys = s.ranges.cu_keys.Ref(),
                     .o = s.o.Ref(),
                     .lse = s.lse.Ref(),
                     .d_o = s.d_o.Ref(),
                     .dq = s.dq.MutableRef(),
                     .dk = s.dk.MutableRef(),
                     .dv = s.dv.MutableRef(),
                     .scale = Scale(s),
                     .causal = s.ranges.causal},
                    stream);
}

void SelectedForward(AttentionSet& s, const NsaConfig& nsa, Stream stream) {
  ops::SelectedAttentionFwd({.q = s.q.Ref(),
                             .k = s.k.Ref(),
                             .v = s.v.Ref(),
                             .blocks = s.blocks.Ref(),
                             .positions = s.grid->positions.Ref(),
                             .cu_queries = s.ranges.cu_queries.Ref(),
                             .cu_keys = s.ranges.cu_keys.Ref(),
                             .o = s.o.MutableRef(),
                             .lse = s.lse.MutableRef(),
                             .scale = Scale(s),
                             .select_block = nsa.select_block},
                            stream);
}

void SelectedBackward(AttentionSet& s, const NsaConfig& nsa, Stream stream) {
  ops::SelectedAttentionBwd({.q = s.q.Ref(),
                             .k = s.k.Ref(),
                             .v = s.v.Ref(),
                             .blocks = s.blocks.Ref(),
                             .positions = s.grid->positions.Ref(),
                             .cu_queries = s.ranges.cu_queries.Ref(),
                             .cu_keys = s.ranges.cu_keys.Ref(),
                             .o = s.o.Ref(),
                             .lse = s.lse.Ref(),
                             .d_o = s.d_o.Ref(),
                             .dq = s.dq.MutableRef(),
                             .dk = s.dk.MutableRef(),
                             .dv = s.dv.MutableRef(),
                             .scale = Scale(s),
                             .select_block = nsa.select_block},
                            stream);
}

void Select(AttentionSet& s, const NsaConfig& nsa, Stream stream) {
  const NsaGrid& grid = *s.grid;
  ops::SelectBlocks({.q = s.q.Ref(),
                     .k_cmp = s.k.Ref(),
                     .lse = s.lse.Ref(),
                     .ranges = grid.cmp_ranges.Ref(),
                     .positions = grid.positions.Ref(),
                     .cu_queries = grid.cu_seqlens.Ref(),
                     .cu_keys = grid.cu_cmp.Ref(),
                     .blocks = s.blocks.MutableRef(),
                     .scores = {},
                     .entropy = {},
                     .scale = Scale(s),
                     .block = nsa.block,
                     .stride = nsa.stride,
                     .select_block = nsa.select_block,
                     .num_init = nsa.num_init,
                     .num_local = nsa.num_local},
                    stream);
}

AttentionSet MakeCompressed(const BenchSizes& sizes, Device device, uint64_t seed) {
  const Stream stream = ComputeStream(device);
  const auto grid = NsaGrid::Of(PackedSequences::Single(sizes.tokens).To(device), sizes.nsa);
  AttentionSet s = MakeAttention(sizes.model, sizes.tokens, grid->num_compressed(), device, seed);
  s.ranges = {grid->cmp_ranges, grid->cu_seqlens, grid->cu_cmp};
  s.grid = grid;
  s.blocks = Tensor::Empty({sizes.tokens, sizes.model.num_groups, sizes.nsa.num_selected},
                           DType::kI32, device);
  Forward(s, stream);
  return s;
}

AttentionSet MakeSelected(const BenchSizes& sizes, Device device, uint64_t seed) {
  const Stream stream = ComputeStream(device);
  AttentionSet s = MakeAttention(sizes.model, sizes.tokens, sizes.tokens, device, seed);
  if (const auto lists = GivenLists(sizes)) {
    s.grid = NsaGrid::Of(PackedSequences::Single(sizes.tokens).To(device), sizes.nsa);
    s.blocks =
        Tensor::FromVector(lists->blocks, {lists->tokens, lists->groups, lists->places}).To(device);
  } else {
    AttentionSet chooser = MakeCompressed(sizes, device, seed);
    Select(chooser, sizes.nsa, stream);
    s.blocks = chooser.blocks;
    s.grid = chooser.grid;
  }
  s.ranges = {{}, s.grid->cu_seqlens, s.grid->cu_seqlens};
  SelectedForward(s, sizes.nsa, stream);
  return s;
}

std::optional<BlockLists> GivenLists(const BenchSizes& sizes) {
  switch (sizes.pattern) {
    case BenchPattern::kRandom:
      return std::nullopt;
    case BenchPattern::kLocal:
      return LocalLists(sizes.tokens, sizes.model.num_groups, sizes.nsa, sizes.keep, 1);
    case BenchPattern::kFile:
      return FirstTokens(*sizes.lists, sizes.tokens);
  }
  return std::nullopt;
}

ListStatistics MeasureLists(const BenchSizes& sizes, Device device) {
  std::optional<BlockLists> lists = GivenLists(sizes);
  if (!lists) {
    AttentionSet chooser = MakeCompressed(sizes, device, 0);
    Select(chooser, sizes.nsa, ComputeStream(device));
    const Tensor blocks = chooser.blocks.To(kCpu);
    const int32_t* first = blocks.data<int32_t>();
    lists = {blocks.dim(0), blocks.dim(1), blocks.dim(2), {first, first + blocks.numel()}};
  }
  return {.pattern = NameOf(sizes.pattern),
          .of_token = BlocksOfToken(*lists),
          .of_adjacent = DistinctBlocks(*lists, kAdjacent),
          .of_far_adjacent = DistinctBlocks(*lists, kFarAdjacent)};
}

}  // namespace lacuna
