// Rows of a decode step's attention: kSequences sequences with a query each at the end of a cache of
// `tokens` tokens, full attention and NSA's branches.
#include <algorithm>
#include <cmath>

#include "core/ops/attention.h"
#include "core/stream.h"
#include "nsa/gate_combine.h"
#include "nsa/nsa_grid.h"
#include "nsa/select_blocks.h"
#include "nsa/selected_attention.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"

namespace lacuna {
namespace {

constexpr int64_t kSequences = 8;
constexpr DType kType = DType::kBF16;

// What a step's query attends to, a cache after the other.
struct Cache {
  Tensor k, v, cu_keys;
  Tensor ranges;  // [B, 2], rows of k
  Tensor o, lse;
};

struct DecodeSet {
  Tensor q, cu_queries, positions, gate, blocks, o;
  Cache full, cmp, slc, win;
  double scale = 1;
};

Tensor Ints(const std::vector<int32_t>& values, Shape shape, Device device) {
  return Tensor::FromVector(values, std::move(shape)).To(device);
}

// Caches of `keys` rows each; the queries see the last `visible`.
Cache MakeCache(const ModelConfig& m, int64_t keys, int64_t visible, Device device, uint64_t seed) {
  std::vector<int32_t> cu = {0}, ranges;
  for (int64_t b = 1; b <= kSequences; ++b) {
    cu.push_back(static_cast<int32_t>(b * keys));
    ranges.push_back(static_cast<int32_t>(b * keys - visible));
    ranges.push_back(static_cast<int32_t>(b * keys));
  }
  const int64_t rows = kSequences * keys;
  return {.k = NormalTensor({rows, m.num_groups, m.head_dim_qk}, kType, device, 2 * seed),
          .v = NormalTensor({rows, m.num_groups, m.head_dim_v}, kType, device, 2 * seed + 1),
          .cu_keys = Ints(cu, {kSequences + 1}, device),
          .ranges = Ints(ranges, {kSequences, 2}, device),
          .o = Tensor::Empty({kSequences, m.num_heads, m.head_dim_v}, kType, device),
          .lse = Tensor::Empty({kSequences, m.num_heads}, DType::kF32, device)};
}

DecodeSet MakeStep(const BenchSizes& sizes, Device device, uint64_t seed) {
  const ModelConfig& m = sizes.model;
  std::vector<int32_t> cu;
  for (int32_t b = 0; b <= kSequences; ++b) cu.push_back(b);
  const std::vector<int32_t> last(kSequences, static_cast<int32_t>(sizes.tokens - 1));
  DecodeSet s;
  s.q = NormalTensor({kSequences, m.num_heads, m.head_dim_qk}, kType, device, 3000 + seed);
  s.cu_queries = Ints(cu, {kSequences + 1}, device);
  s.positions = Ints(last, {kSequences}, device);
  s.scale = 1 / std::sqrt(static_cast<double>(m.head_dim_qk));
  return s;
}

DecodeSet MakeFull(const BenchSizes& sizes, Device device, uint64_t seed) {
  DecodeSet s = MakeStep(sizes, device, seed);
  s.full = MakeCache(sizes.model, sizes.tokens, sizes.tokens, device, 4000 + seed);
  return s;
}

DecodeSet MakeNsa(const BenchSizes& sizes, Device device, uint64_t seed) {
  const ModelConfig& m = sizes.model;
  const NsaConfig& nsa = sizes.nsa;
  const int64_t compressed = NumCompressed(sizes.tokens, nsa.block, nsa.stride);
  DecodeSet s = MakeStep(sizes, device, seed);
  s.cmp = MakeCache(m, compressed, compressed, device, 5000 + 4 * seed);
  s.slc = MakeCache(m, sizes.tokens, 0, device, 5001 + 4 * seed);
  s.win = MakeCache(m, sizes.tokens, std::min(nsa.window, sizes.tokens), device, 5002 + 4 * seed);
  s.gate = FilledTensor({kSequences, m.num_heads, 3}, DType::kF32, device, 0.5);
  s.blocks = Tensor::Empty({kSequences, m.num_groups, nsa.num_selected}, DType::kI32, device);
  s.o = Tensor::EmptyLike(s.cmp.o);
  return s;
}

void Attend(const DecodeSet& s, Cache& cache, Stream stream) {
  ops::AttentionFwd({.q = s.q.Ref(),
                     .k = cache.k.Ref(),
                     .v = cache.v.Ref(),
                     .ranges = cache.ranges.Ref(),
                     .cu_queries = s.cu_queries.Ref(),
                     .cu_keys = cache.cu_keys.Ref(),
                     .o = cache.o.MutableRef(),
                     .lse = cache.lse.MutableRef(),
                     .scale = s.scale},
                    stream);
}

void NsaStep(DecodeSet& s, const NsaConfig& nsa, Stream stream) {
  Attend(s, s.cmp, stream);
  ops::SelectBlocks({.q = s.q.Ref(),
                     .k_cmp = s.cmp.k.Ref(),
                     .lse = s.cmp.lse.Ref(),
                     .ranges = s.cmp.ranges.Ref(),
                     .positions = s.positions.Ref(),
                     .cu_queries = s.cu_queries.Ref(),
                     .cu_keys = s.cmp.cu_keys.Ref(),
                     .blocks = s.blocks.MutableRef(),
                     .scores = {},
                     .entropy = {},
                     .scale = s.scale,
                     .block = nsa.block,
                     .stride = nsa.stride,
                     .select_block = nsa.select_block,
                     .num_init = nsa.num_init,
                     .num_local = nsa.num_local},
                    stream);
  ops::SelectedAttentionFwd({.q = s.q.Ref(),
                             .k = s.slc.k.Ref(),
                             .v = s.slc.v.Ref(),
                             .blocks = s.blocks.Ref(),
                             .positions = s.positions.Ref(),
                             .cu_queries = s.cu_queries.Ref(),
                             .cu_keys = s.slc.cu_keys.Ref(),
                             .o = s.slc.o.MutableRef(),
                             .lse = s.slc.lse.MutableRef(),
                             .scale = s.scale,
                             .select_block = nsa.select_block},
                            stream);
  Attend(s, s.win, stream);
  ops::GateCombineFwd({.gate = s.gate.Ref(),
                       .o_cmp = s.cmp.o.Ref(),
                       .o_slc = s.slc.o.Ref(),
                       .o_win = s.win.o.Ref(),
                       .o = s.o.MutableRef()},
                      stream);
}

}  // namespace

int64_t TokensOfDecodeStep(const NsaConfig& nsa, int64_t context) {
  const int64_t blocks = (context - 1) / nsa.select_block + 1;
  return NumCompressed(context, nsa.block, nsa.stride) +
         (std::min(nsa.num_selected, blocks) - 1) * nsa.select_block +
         (context - 1) % nsa.select_block + 1 + std::min(nsa.window, context);
}

void AddDecodeRows(const BenchSizes& sizes, Device device, BenchRows& rows) {
  const Stream stream = ComputeStream(device);
  const ModelConfig& m = sizes.model;
  const auto bytes = [&](int64_t tokens) {
    return static_cast<double>(2 * kSequences * tokens * m.num_groups *
                               (m.head_dim_qk + m.head_dim_v));
  };
  rows.Bytes(
      "decode_full", sizes.tokens, bytes(sizes.tokens), "8 sequences: 2 T G (Dk + Dv)",
      [=](uint64_t seed) { return MakeFull(sizes, device, seed); },
      [=](DecodeSet& s) { Attend(s, s.full, stream); });
  rows.Bytes(
      "decode_nsa", sizes.tokens, bytes(TokensOfDecodeStep(sizes.nsa, sizes.tokens)),
      "8 sequences: 2 (Tc + n l' + w) G (Dk + Dv)",
      [=](uint64_t seed) { return MakeNsa(sizes, device, seed); },
      [=, nsa = sizes.nsa](DecodeSet& s) { NsaStep(s, nsa, stream); });
}

}  // namespace lacuna
