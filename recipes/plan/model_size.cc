#include "recipes/plan/model_size.h"

#include <algorithm>

namespace lacuna {
namespace {

// Matrices of one phi; their inputs are whole blocks, so they work once a block and group, not once
// a token.
int64_t PhiMatrices(const NsaConfig& nsa, int64_t head_dim) {
  const int64_t input = nsa.block * head_dim;
  switch (nsa.phi) {
    case PhiKind::kMlp:
      return nsa.phi_hidden * head_dim * (input + head_dim);
    case PhiKind::kLinear:
      return input * head_dim;
    case PhiKind::kMean:
      return 0;
  }
  return 0;
}

int64_t SwiGlu(int64_t width, int64_t hidden) {
  return 3 * width * hidden;
}

}  // namespace

int64_t PhiParameters(const NsaConfig& nsa, int64_t head_dim) {
  const int64_t positions = nsa.phi == PhiKind::kMean ? 0 : nsa.block * head_dim;
  return positions + PhiMatrices(nsa, head_dim);
}

ParameterCounts CountParameters(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  const MoeConfig& e = recipe.moe;
  const int64_t layers = m.num_layers, moe_layers = layers - m.num_dense_layers;
  const int64_t key_value = m.num_groups * (m.head_dim_qk + m.head_dim_v) * m.width;
  ParameterCounts n;
  n.embeddings = m.vocab_size * m.width * (m.tie_embeddings ? 1 : 2);
  n.attention = layers * (m.num_heads * (m.head_dim_qk + m.head_dim_v) * m.width + key_value);
  if (recipe.uses_nsa()) {
    const int64_t phi =
        PhiParameters(recipe.nsa, m.head_dim_qk) + PhiParameters(recipe.nsa, m.head_dim_v);
    n.nsa = layers * (2 * key_value + phi + 3 * m.num_heads * m.width);
  }
  n.dense_ffn = m.num_dense_layers * SwiGlu(m.width, m.dense_width);
  n.shared_experts = moe_layers * SwiGlu(m.width, e.num_shared * e.expert_width);
  n.routed_experts = moe_layers * e.num_experts * SwiGlu(m.width, e.expert_width);
  n.idle_experts =
      moe_layers * (e.num_experts - e.experts_per_token) * SwiGlu(m.width, e.expert_width);
  n.router = moe_layers * e.num_experts * m.width;
  const int64_t head_norms = m.qk_norm ? (recipe.uses_nsa() ? 4 : 2) * m.head_dim_qk : 0;
  n.norms = layers * (2 * m.width + head_norms) + m.width;
  return n;
}

int64_t CompressedBlocks(const NsaConfig& nsa, int64_t tokens) {
  return tokens < nsa.block ? 0 : (tokens - nsa.block) / nsa.stride + 1;
}

int64_t SelectedTokens(const NsaConfig& nsa, int64_t tokens) {
  const int64_t query = tokens - 1,
                before = std::min(nsa.num_selected - 1, query / nsa.select_block);
  return before * nsa.select_block + query % nsa.select_block + 1;
}

int64_t TokensReadPerDecodeStep(const NsaConfig& nsa, int64_t tokens) {
  return CompressedBlocks(nsa, tokens) + SelectedTokens(nsa, tokens) + std::min(nsa.window, tokens);
}

AttentionPairs CountPairs(const NsaConfig& nsa, int64_t tokens) {
  AttentionPairs pairs;
  pairs.full = tokens * (tokens + 1) / 2;
  for (int64_t visible = 1; visible <= tokens; ++visible) {
    pairs.cmp += CompressedBlocks(nsa, visible);
    pairs.selected += SelectedTokens(nsa, visible);
    pairs.window += std::min(nsa.window, visible);
  }
  return pairs;
}

TrainingFlops FlopsPerToken(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  const ParameterCounts n = CountParameters(recipe);
  const double tokens = static_cast<double>(recipe.train.sequence_length),
               layers = static_cast<double>(m.num_layers);
  const double heads = static_cast<double>(m.num_heads * (m.head_dim_qk + m.head_dim_v));
  TrainingFlops flops;
  int64_t matrices = n.active() - n.embeddings + m.vocab_size * m.width - n.norms;
  flops.full_attention = 6 * heads * layers * (tokens + 1) / 2;
  flops.attention = flops.full_attention;
  if (recipe.uses_nsa()) {
    const NsaConfig& nsa = recipe.nsa;
    matrices -=
        m.num_layers * (PhiParameters(nsa, m.head_dim_qk) + PhiParameters(nsa, m.head_dim_v));
    const double blocks =
        static_cast<double>(m.num_groups * CompressedBlocks(nsa, recipe.train.sequence_length)) /
        tokens;
    flops.phi =
        6 * layers * blocks *
        static_cast<double>(PhiMatrices(nsa, m.head_dim_qk) + PhiMatrices(nsa, m.head_dim_v));
    const AttentionPairs pairs = CountPairs(nsa, recipe.train.sequence_length);
    flops.attention = 6 * heads * layers * static_cast<double>(pairs.nsa()) / tokens;
  }
  flops.matrices = 6 * static_cast<double>(matrices);
  return flops;
}

}  // namespace lacuna
