// Rows of attention over ranges and of the attention in nsa/, one document of `tokens` tokens.
#include <cmath>

#include "autograd/functions/attention.h"
#include "core/ops/attention.h"
#include "core/stream.h"
#include "nsa/nsa_grid.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"
#include "recipes/plan/model_size.h"

namespace lacuna {
namespace {

constexpr DType kType = DType::kBF16;

double D(int64_t n) {
  return static_cast<double>(n);
}

// Of one branch; what it attends to is beside it in `ranges` or `blocks`.
struct AttentionSet {
  Tensor q, k, v, o, lse, d_o, dq, dk, dv;
  AttentionRanges ranges;
  Tensor blocks;
  std::shared_ptr<const NsaGrid> grid;  // of NSA's branches
};

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

double Scale(const AttentionSet& s) {
  return 1 / std::sqrt(D(s.q.dim(2)));
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

// The lists that the compression branch chooses for a set's queries: random ones, so that
// neighbours share few blocks.
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

// The compression branch after its forward, with room for the lists.
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

double SetBytes(const ModelConfig& m, int64_t tokens) {
  return 2 * D(tokens) * D(m.num_heads) * D(m.head_dim_qk + m.head_dim_v);
}

// name_fwd and name_bwd over `pairs` pairs a head.
template <class Make, class Fwd, class Bwd>
void AddBranch(const std::string& name, const BenchSizes& sizes, int64_t pairs,
               const std::string& pairs_text, Make make, Fwd forward, Bwd backward,
               BenchRows& rows) {
  const ModelConfig& m = sizes.model;
  const double of_heads = 2 * D(m.num_heads) * D(pairs), bytes = SetBytes(m, sizes.tokens);
  rows.Flops(name + "_fwd", sizes.tokens, of_heads * D(m.head_dim_qk + m.head_dim_v),
             "2H pairs (Dk + Dv), pairs = " + pairs_text, bytes, make, forward);
  rows.Flops(name + "_bwd", sizes.tokens, of_heads * D(3 * m.head_dim_qk + 2 * m.head_dim_v),
             "2H pairs (3Dk + 2Dv), pairs = " + pairs_text, bytes, make, backward);
}

void AddBranches(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const Stream stream = ComputeStream(device);
  const NsaConfig nsa = sizes.nsa;
  const AttentionPairs pairs = CountPairs(nsa, sizes.tokens);
  const auto compressed = [=](uint64_t seed) { return MakeCompressed(sizes, device, seed); };
  const auto causal = [=](int64_t window) {
    return [=](uint64_t seed) {
      AttentionSet s = MakeAttention(sizes.model, sizes.tokens, sizes.tokens, device, seed);
      s.ranges = CausalRanges(PackedSequences::Single(sizes.tokens).To(device), window);
      Forward(s, stream);
      return s;
    };
  };
  const auto forward = [=](AttentionSet& s) { Forward(s, stream); };
  const auto backward = [=](AttentionSet& s) { Backward(s, stream); };
  AddBranch("attention", sizes, pairs.full, "T (T + 1) / 2", causal(0), forward, backward, rows);
  AddBranch("window_attention", sizes, pairs.window, "sum_t min(t + 1, w)", causal(nsa.window),
            forward, backward, rows);
  AddBranch("compressed_attention", sizes, pairs.cmp, "sum_t visible blocks", compressed, forward,
            backward, rows);
  rows.Flops("select_blocks", sizes.tokens,
             2 * D(sizes.model.num_heads) * D(pairs.cmp) * D(sizes.model.head_dim_qk),
             "2H pairs Dk, pairs = sum_t visible blocks", SetBytes(sizes.model, sizes.tokens),
             compressed, [=](AttentionSet& s) { Select(s, nsa, stream); });
  AddBranch(
      "selected_attention", sizes, pairs.selected, "sum_t tokens of its blocks up to t",
      [=](uint64_t seed) {
        AttentionSet chooser = compressed(seed),
                     s = MakeAttention(sizes.model, sizes.tokens, sizes.tokens, device, seed);
        Select(chooser, nsa, stream);
        s.blocks = chooser.blocks;
        s.grid = chooser.grid;
        s.ranges = {{}, s.grid->cu_seqlens, s.grid->cu_seqlens};
        SelectedForward(s, nsa, stream);
        return s;
      },
      [=](AttentionSet& s) { SelectedForward(s, nsa, stream); },
      [=](AttentionSet& s) { SelectedBackward(s, nsa, stream); }, rows);
}

}  // namespace

void AddAttentionRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  AddBranches(sizes, device, rows);
}

}  // namespace lacuna
