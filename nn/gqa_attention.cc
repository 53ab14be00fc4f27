#include "nn/gqa_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "autograd/functions/activation.h"
#include "autograd/functions/attention.h"
#include "autograd/functions/linear.h"
#include "autograd/functions/norm.h"
#include "autograd/functions/rope.h"
#include "nn/context_gather.h"
#include "nn/gqa_cache.h"

namespace lacuna {
namespace {

// Query i of n continues a cache that then holds `keys` rows: it sees all up to itself. One upload:
// parts of a tensor, each at a multiple of 16 bytes.
AttentionRanges MakeContinuationRanges(int64_t n, int64_t keys, Device device) {
  std::vector<int32_t> ints(static_cast<size_t>(8 + 2 * n), 0);
  ints[1] = static_cast<int32_t>(n);
  ints[5] = static_cast<int32_t>(keys);
  for (int64_t i = 0; i < n; ++i)
    ints[static_cast<size_t>(8 + 2 * i + 1)] = static_cast<int32_t>(keys - n + i + 1);
  const Tensor all = Tensor::FromVector(ints, {8 + 2 * n}).To(device);
  return {all.View(8, {n, 2}), all.View(0, {2}), all.View(4, {2})};
}

// The same for all layers, and all sequences of these lengths.
AttentionRanges ContinuationRanges(const PackedSequences& tokens, int64_t n, int64_t keys) {
  return *tokens.Derived<AttentionRanges>(fmt::format("continuation.{}.{}", n, keys), [&] {
    return MakeContinuationRanges(n, keys, tokens.device());
  });
}

std::vector<int32_t> PositionsOf(const PackedSequences& tokens,
                                 const std::vector<AttentionCache*>& caches) {
  std::vector<int32_t> positions;
  for (size_t i = 0; i < caches.size(); ++i) {
    const int64_t begin = caches[i]->length(),
                  n = tokens.host_cu_seqlens()[i + 1] - tokens.host_cu_seqlens()[i];
    for (int64_t t = 0; t < n; ++t) positions.push_back(static_cast<int32_t>(begin + t));
  }
  return positions;
}

// Of the tokens, [N] i32 on their device: the same for all layers.
Tensor ContinuedPositions(const PackedSequences& tokens,
                          const std::vector<AttentionCache*>& caches) {
  std::string key = "continued_positions";
  for (const AttentionCache* cache : caches) key += fmt::format(".{}", cache->length());
  return *tokens.Derived<Tensor>(key, [&] {
    return Tensor::FromVector(PositionsOf(tokens, caches), {tokens.num_rows()}).To(tokens.device());
  });
}

}  // namespace

Variable ProjectHeads(Tape& tape, const Variable& x, Parameter& weight, int64_t head_dim,
                      Parameter* norm, double norm_eps) {
  const Variable y =
      Reshape(tape, Linear(tape, x, weight), {x.dim(0), weight.shape[0] / head_dim, head_dim});
  return norm == nullptr ? y : RmsNorm(tape, y, *norm, norm_eps);
}

int64_t LongestContinued(const PackedSequences& tokens,
                         const std::vector<AttentionCache*>& caches) {
  int64_t longest = 0;
  for (size_t i = 0; i < caches.size(); ++i) {
    longest = std::max<int64_t>(longest, caches[i]->length() + tokens.host_cu_seqlens()[i + 1] -
                                             tokens.host_cu_seqlens()[i]);
  }
  return longest;
}

GqaAttention::GqaAttention(const AttentionSpec& spec)
    : spec_(spec), scale_(1.0 / std::sqrt(static_cast<double>(spec.head_dim_qk))) {
  const auto weight = [&](const char* name, int64_t rows) {
    return &AddParameter(name, {rows, spec.width}, Init::Normal(spec.init_std));
  };
  q_proj_ = weight("q_proj.weight", spec.num_heads * spec.head_dim_qk);
  k_proj_ = weight("k_proj.weight", spec.num_groups * spec.head_dim_qk);
  v_proj_ = weight("v_proj.weight", spec.num_groups * spec.head_dim_v);
  if (spec.qk_norm) {
    q_norm_ =
        &AddParameter("q_norm.weight", {spec.head_dim_qk}, Init::Ones(), /*weight_decay=*/false);
    k_norm_ =
        &AddParameter("k_norm.weight", {spec.head_dim_qk}, Init::Ones(), /*weight_decay=*/false);
  }
  o_proj_ = &AddParameter("o_proj.weight", {spec.width, spec.num_heads * spec.head_dim_v},
                          Init::Normal(spec.out_std));
}

GqaAttention::Projected GqaAttention::Project(Tape& tape, const Variable& x) {
  return {ProjectHeads(tape, x, *q_proj_, spec_.head_dim_qk, q_norm_, spec_.norm_eps),
          ProjectHeads(tape, x, *k_proj_, spec_.head_dim_qk, k_norm_, spec_.norm_eps),
          ProjectHeads(tape, x, *v_proj_, spec_.head_dim_v, nullptr, 0)};
}

GqaAttention::Projected GqaAttention::Rotate(Tape& tape, Projected p,
                                             const Tensor& positions) const {
  p.q = Rope(tape, std::move(p.q), positions, *spec_.rope);
  p.k = Rope(tape, std::move(p.k), positions, *spec_.rope);
  return p;
}

Variable GqaAttention::Forward(ForwardContext& ctx, const Variable& x, const Variable& residual) {
  Tape& tape = ctx.tape;
  spec_.rope->Prepare(ctx.sequences.max_length());
  Projected p = Rotate(tape, Project(tape, x), ctx.positions());
  if (ctx.context != nullptr) {
    ContextGather k(tape, *ctx.context, p.k), v(tape, *ctx.context, p.v);
    p.k = k.Finish();
    p.v = v.Finish();
  }
  AttentionRanges ranges = CausalRanges(ctx.sequences, /*window=*/0, ctx.row_subset());
  ranges.deterministic = ctx.deterministic;
  const Variable o = AttentionOverRanges(tape, p.q, p.k, p.v, ranges, scale_);
  return Linear(tape, Reshape(tape, o, {x.dim(0), spec_.num_heads * spec_.head_dim_v}), *o_proj_,
                residual, ctx.output_is_read);
}

std::unique_ptr<AttentionCache> GqaAttention::NewCache() const {
  return std::make_unique<KeyValueCache>();
}

Tensor GqaAttention::Extend(const Tensor& x, const PackedSequences& tokens,
                            const std::vector<AttentionCache*>& caches, Stream stream) {
  Tape tape(Tape::Mode::kInference, stream);
  spec_.rope->Prepare(LongestContinued(tokens, caches));
  // Steps rotate on their way into the caches.
  const bool steps_alone = tokens.max_length() == 1;
  Projected p = Project(tape, Variable(x));
  if (!steps_alone) p = Rotate(tape, std::move(p), ContinuedPositions(tokens, caches));
  Tensor o = Tensor::Empty({x.dim(0), spec_.num_heads, spec_.head_dim_v}, x.dtype(), x.device());
  std::vector<NewToken> steps;
  std::vector<int64_t> addresses;
  for (size_t i = 0; i < caches.size(); ++i) {
    const int64_t begin = tokens.host_cu_seqlens()[i], end = tokens.host_cu_seqlens()[i + 1];
    auto& cache = static_cast<KeyValueCache&>(*caches[i]);
    if (end - begin == 1) {
      cache.k.Extend(1, p.k.value());
      cache.v.Extend(1, p.v.value());
      steps.push_back({begin, cache.length()});
      addresses.push_back(AddressOf(cache.k.data()));
      addresses.push_back(AddressOf(cache.v.data()));
      continue;
    }
    cache.k.Append(p.k.value().Slice(begin, end));
    cache.v.Append(p.v.value().Slice(begin, end));
    o.Slice(begin, end)
        .CopyFrom(AttentionOverRanges(tape, Variable(p.q.value().Slice(begin, end)),
                                      Variable(cache.k.rows()), Variable(cache.v.rows()),
                                      ContinuationRanges(tokens, end - begin, cache.length()),
                                      scale_)
                      .value());
  }
  if (!steps.empty()) {
    DecodeGqa(p.q.value(), p.k.value(), p.v.value(), *DecodeTokens::Of(tokens, steps),
              addresses_.Update(std::move(addresses), 2, x.device()),
              steps_alone ? spec_.rope.get() : nullptr, scale_, stream, &o);
  }
  return Linear(tape, Variable(o.Reshape({x.dim(0), -1})), *o_proj_).value();
}

}  // namespace lacuna
