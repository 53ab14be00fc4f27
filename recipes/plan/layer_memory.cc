#include "recipes/plan/layer_memory.h"

#include "recipes/plan/rank_shares.h"

namespace lacuna {
namespace {

double Real(int64_t n) {
  return static_cast<double>(n);
}

struct AttentionSizes {
  double q, o, keys, values, heads;
  double compressed;  // blocks a token
  double seen;        // tokens whose keys a rank has, a token of its own (parallel.context)
};
AttentionSizes SizesOf(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  return {.q = Real(m.num_heads * m.head_dim_qk),
          .o = Real(m.num_heads * m.head_dim_v),
          .keys = Real(m.num_groups * m.head_dim_qk),
          .values = Real(m.num_groups * m.head_dim_v),
          .heads = Real(m.num_heads),
          .compressed = 1 / Real(recipe.nsa.stride),
          .seen = Real(recipe.parallel.context)};
}

// Outputs and statistics of a branch's kernel.
TokenMemory BranchOutputs(const AttentionSizes& s) {
  return {.compute = s.o, .accumulation = s.heads};
}

TokenMemory BlockLists(const Recipe& recipe) {
  return {.ids = recipe.uses_nsa() ? Real(recipe.model.num_groups * recipe.nsa.num_selected) : 0};
}

double SharedWidth(const Recipe& recipe) {
  return Real(recipe.moe.num_shared * recipe.moe.expert_width);
}

// Rows of tokens and of choices that this rank's experts have.
struct ExpertRows {
  double tokens, choices;
};
ExpertRows RowsOf(const Recipe& recipe, double overload) {
  const auto chosen = Real(recipe.moe.experts_per_token);
  if (recipe.parallel.expert == 1) return {.tokens = 1, .choices = chosen};
  return {.tokens = ArrivingRows(recipe, overload), .choices = overload * chosen};
}

}  // namespace

double TokenMemory::Bytes(DType dtype) const {
  return compute * Real(SizeOf(dtype)) + accumulation * Real(SizeOf(AccumulationType(dtype))) +
         ids * 4;
}

TokenMemory AttentionKept(const Recipe& recipe) {
  const ModelConfig& m = recipe.model;
  const AttentionSizes s = SizesOf(recipe);
  const TokenMemory kept{.compute = Real(m.width) + s.q + (m.qk_norm ? s.q : 0),
                         .accumulation = 1 + (m.qk_norm ? s.heads : 0)};
  if (!recipe.uses_nsa())
    return kept +
           TokenMemory{.compute = s.seen * (s.keys + s.values) + (m.qk_norm ? s.keys : 0),
                       .accumulation = m.qk_norm ? Real(m.num_groups) : 0} +
           BranchOutputs(s);
  const NsaConfig& nsa = recipe.nsa;
  // Of a compressed block: the gathered block, the hidden layer before and after its activation, the
  // result.
  const double hidden = nsa.phi == PhiKind::kMlp ? 2 * Real(nsa.phi_hidden) : 0;
  const double gathered = nsa.phi == PhiKind::kMean ? 0 : Real(nsa.block);
  // Three branches of keys, values, outputs and statistics; gates; the gated sum.
  return kept +
         TokenMemory{.compute = s.seen * (s.keys + s.values) *
                                    (3 + (gathered + hidden + 1) * s.compressed) +
                                s.o + (m.qk_norm ? 3 * s.keys : 0),
                     .accumulation = 3 * s.heads + (m.qk_norm ? 3 * Real(m.num_groups) : 0)} +
         BranchOutputs(s) * 3 + BlockLists(recipe);
}

TokenMemory AttentionNotRecomputed(const Recipe& recipe) {
  const double branches = recipe.uses_nsa() ? 3 : 1;
  return BlockLists(recipe) +
         BranchOutputs(SizesOf(recipe)) * (recipe.train.recompute.keeps_attention() ? branches : 0);
}

TokenMemory DenseKept(const Recipe& recipe) {
  return {.compute = Real(recipe.model.width) + 3 * Real(recipe.model.dense_width),
          .accumulation = 1};
}

TokenMemory ExpertsKept(const Recipe& recipe, double overload) {
  const MoeConfig& e = recipe.moe;
  const ExpertRows rows = RowsOf(recipe, overload);
  const bool travels = recipe.parallel.expert > 1;
  const auto chosen = Real(e.experts_per_token);
  // Of each row that the experts have: weights and positions of its choices. Where rows travel, this
  // rank's tokens have a position for each rank.
  return TokenMemory{.compute = Real(recipe.model.width) + 3 * SharedWidth(recipe) +
                                rows.choices * 2 * Real(e.expert_width),
                     .accumulation = 2 + 2 * Real(e.num_experts) + rows.tokens * chosen,
                     .ids = rows.tokens * chosen + (travels ? Real(recipe.parallel.expert) : 0)} +
         ExpertDecisions(recipe);
}

TokenMemory ExpertDecisions(const Recipe& recipe) {
  return {.ids = Real(recipe.moe.experts_per_token)};
}

TokenMemory ReceivedKept(const Recipe& recipe, double overload) {
  if (recipe.parallel.expert == 1) return {};
  return {.compute = RowsOf(recipe, overload).tokens * Real(recipe.model.width)};
}

TokenMemory AttentionWork(const Recipe& recipe) {
  const AttentionSizes s = SizesOf(recipe);
  const double width = Real(recipe.model.width);
  if (!recipe.uses_nsa())
    return {.compute = width + s.q + s.seen * (s.keys + s.values) + s.o, .accumulation = s.heads};
  // The output's gradient; the gated sum is gone unless the weight gradients of this module wait for
  // the next layer's rows to be on their way (AllToAllDispatcher).
  const double output = recipe.parallel.expert > 1 ? s.o : 0;
  return {.compute = width + s.q + output + s.seen * (s.keys + s.values) * (2 + s.compressed),
          .accumulation = 9 * s.heads};
}

TokenMemory DenseWork(const Recipe& recipe) {
  // Both gradients of the activation, whose output is gone.
  return {.compute = Real(recipe.model.width) + 2 * Real(recipe.model.dense_width)};
}

TokenMemory ExpertsWork(const Recipe& recipe, double overload) {
  const MoeConfig& e = recipe.moe;
  const ExpertRows rows = RowsOf(recipe, overload);
  const double width = Real(recipe.model.width);
  // The rows' gradients before and behind the experts, and the weighted activations; the stream's
  // gradient, and where nothing travels that of the layer's input. The shared experts' hidden layer
  // has given its place to its gradient by then.
  return {.compute = rows.choices * (2 * width + Real(e.expert_width)) +
                     (recipe.parallel.expert > 1 ? width : 2 * width),
          .accumulation = rows.tokens * Real(e.experts_per_token)};
}

TokenMemory ReceivedWork(const Recipe& recipe, double overload) {
  // What came, and what goes back.
  return ReceivedKept(recipe, overload) * 2;
}

}  // namespace lacuna
