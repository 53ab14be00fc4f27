// Rows of a decode step's attention: kSequences sequences of `tokens` tokens, full attention and NSA's
// branches (whole steps, other batches: recipes/benchmark/decode_benchmark.h).
#include <algorithm>
#include <cmath>

#include "core/ops/decode_attention.h"
#include "core/stream.h"
#include "nn/decode_step.h"
#include "nsa/decode_branches.h"
#include "nsa/nsa_grid.h"
#include "recipes/benchmark/benchmark_inputs.h"
#include "recipes/benchmark/op_benchmark.h"

namespace lacuna {
namespace {

constexpr int64_t kSequences = 8;
constexpr DType kType = DType::kBF16;

struct DecodeSet {
  Tensor q, gate, tokens, addresses, blocks, o;
  std::vector<Tensor> caches;
  double scale = 1;
};

// Caches of keys and values with rows[i] rows each, for every sequence; `columns` of them have an
// address, 0 behind the last.
DecodeSet MakeStep(const BenchSizes& sizes, const std::vector<int64_t>& rows, int64_t columns,
                   Device device, uint64_t seed) {
  const ModelConfig& m = sizes.model;
  DecodeSet s;
  std::vector<NewToken> tokens;
  std::vector<int64_t> addresses;
  const auto add = [&](int64_t count, int64_t width) {
    s.caches.push_back(NormalTensor({count, m.num_groups, width}, kType, device,
                                    4000 + 100 * seed + s.caches.size()));
    addresses.push_back(AddressOf(s.caches.back().MutableRef().data));
  };
  for (int64_t b = 0; b < kSequences; ++b) {
    for (const int64_t count : rows) {
      add(count, m.head_dim_qk);
      add(count, m.head_dim_v);
    }
    addresses.resize(static_cast<size_t>((b + 1) * columns));
    tokens.push_back({b, sizes.tokens});
  }
  s.q = NormalTensor({kSequences, m.num_heads, m.head_dim_qk}, kType, device, 3000 + seed);
  s.gate = FilledTensor({kSequences, m.num_heads, 3}, DType::kF32, device, 0.5);
  s.tokens = DecodeTokens(tokens, device).table;
  s.addresses = AddressTable().Update(addresses, columns, device);
  s.blocks = Tensor::Empty({kSequences, m.num_groups, sizes.nsa.num_selected}, DType::kI32, device);
  s.o = Tensor::Empty({kSequences, m.num_heads, m.head_dim_v}, kType, device);
  s.scale = 1 / std::sqrt(static_cast<double>(m.head_dim_qk));
  return s;
}

void FullStep(DecodeSet& s, const BenchSizes& sizes, Stream stream) {
  ops::DecodeAttention({.q = s.q.Ref(),
                        .tokens = s.tokens.Ref(),
                        .addresses = s.addresses.Ref(),
                        .o = s.o.MutableRef(),
                        .scale = s.scale,
                        .groups = sizes.model.num_groups,
                        .max_length = sizes.tokens},
                       stream);
}

void NsaStep(DecodeSet& s, const BenchSizes& sizes, Stream stream) {
  const NsaConfig& nsa = sizes.nsa;
  ops::DecodeBranches({.q = s.q.Ref(),
                       .gate = s.gate.Ref(),
                       .tokens = s.tokens.Ref(),
                       .addresses = s.addresses.Ref(),
                       .o = s.o.MutableRef(),
                       .blocks = s.blocks.MutableRef(),
                       .scale = s.scale,
                       .groups = sizes.model.num_groups,
                       .max_length = sizes.tokens,
                       .block = nsa.block,
                       .stride = nsa.stride,
                       .select_block = nsa.select_block,
                       .num_init = nsa.num_init,
                       .num_local = nsa.num_local,
                       .window = nsa.window},
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
      [=](uint64_t seed) { return MakeStep(sizes, {sizes.tokens}, 2, device, seed); },
      [=](DecodeSet& s) { FullStep(s, sizes, stream); });
  // In the order of CacheColumn; a step's attention does not read the raw rows.
  const std::vector<int64_t> caches = {
      sizes.tokens, NumCompressed(sizes.tokens, sizes.nsa.block, sizes.nsa.stride),
      sizes.nsa.window};
  rows.Bytes(
      "decode_nsa", sizes.tokens, bytes(TokensOfDecodeStep(sizes.nsa, sizes.tokens)),
      "8 sequences: 2 (Tc + n l' + w) G (Dk + Dv)",
      [=](uint64_t seed) { return MakeStep(sizes, caches, kNumCacheColumns, device, seed); },
      [=](DecodeSet& s) { NsaStep(s, sizes, stream); });
}

}  // namespace lacuna
