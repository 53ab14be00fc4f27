#include "recipes/export/reference_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/status.h"

namespace lacuna {
namespace {

size_t At(int64_t i) {
  return static_cast<size_t>(i);
}

void AddTo(Doubles* x, const Doubles& y) {
  for (size_t i = 0; i < x->size(); ++i) (*x)[i] += y[i];
}

// Scores of one token's experts: what weighs them, and what they are chosen by.
struct ExpertScores {
  Doubles scores, choice;
};

ExpertScores Score(const ReferenceConfig& config, const double* logits, const Doubles& bias) {
  ExpertScores out;
  const double top = *std::max_element(logits, logits + config.experts);
  double sum = 0;
  for (int64_t e = 0; e < config.experts; ++e) sum += std::exp(logits[e] - top);
  for (int64_t e = 0; e < config.experts; ++e) {
    const double score = config.softmax_router ? std::exp(logits[e] - top) / sum
                                               : 1.0 / (1.0 + std::exp(-logits[e]));
    out.scores.push_back(score);
    out.choice.push_back(bias.empty() ? score : score + bias[At(e)]);
  }
  return out;
}

// The K experts of one token, ascending; those of `theirs` where they are tied with them.
std::vector<int32_t> ChooseExperts(const ReferenceConfig& config, const Doubles& choice,
                                   int64_t token, int64_t tokens, const LayerDecisions* theirs,
                                   double tie, DecisionAgreement* agreement) {
  std::vector<int32_t> order(choice.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return choice[At(a)] > choice[At(b)]; });
  const double last = choice[At(order[At(config.experts_per_token - 1)])];
  order.resize(At(config.experts_per_token));
  std::sort(order.begin(), order.end());
  if (theirs == nullptr) return order;

  std::vector<int32_t> list = RowOfList(theirs->experts, At(token), At(tokens));
  std::sort(list.begin(), list.end());
  ++agreement->compared;
  if (list == order) {
    ++agreement->equal;
    return order;
  }
  bool tied =
      list.size() == order.size() && std::adjacent_find(list.begin(), list.end()) == list.end();
  for (int32_t e = 0; e < config.experts; ++e) {
    const bool taken = std::binary_search(list.begin(), list.end(), e);
    tied = tied && (taken ? choice[At(e)] >= last - tie : choice[At(e)] <= last + tie);
  }
  if (tied) {
    ++agreement->ties;
    return list;
  }
  if (agreement->unexplained++ == 0) {
    agreement->example = fmt::format("token {}: experts [{}] against [{}] here", token,
                                     fmt::join(list, ", "), fmt::join(order, ", "));
  }
  return order;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReferenceModel>> ReferenceModel::Open(const std::string& folder) {
  std::unique_ptr<ReferenceModel> model(new ReferenceModel());
  LACUNA_ASSIGN_OR_RETURN(model->config_, ReadReferenceConfig(folder));
  LACUNA_ASSIGN_OR_RETURN(model->weights_, ReferenceWeights::Open(folder));
  const ReferenceConfig& config = model->config_;
  ReferenceWeights& weights = *model->weights_;
  model->embedding_ = weights.Take("model.embed_tokens.weight", {config.vocabulary, config.width});
  model->head_ = config.tied ? model->embedding_
                             : weights.Take("lm_head.weight", {config.vocabulary, config.width});
  model->norm_ = weights.Take("model.norm.weight", {config.width}).All();
  for (int64_t i = 0; i < config.layers; ++i) model->layers_.push_back(model->TakeLayer(i));
  LACUNA_RETURN_IF_ERROR(weights.CheckAllTaken());
  return model;
}

ReferenceModel::Mlp ReferenceModel::TakeMlp(const std::string& prefix, int64_t hidden) {
  return {.gate = weights_->Take(prefix + "gate_proj.weight", {hidden, config_.width}),
          .up = weights_->Take(prefix + "up_proj.weight", {hidden, config_.width}),
          .down = weights_->Take(prefix + "down_proj.weight", {config_.width, hidden})};
}

ReferenceModel::Layer ReferenceModel::TakeLayer(int64_t index) {
  const std::string prefix = "model.layers." + std::to_string(index) + ".";
  Layer layer;
  layer.attention_norm = weights_->Take(prefix + "input_layernorm.weight", {config_.width}).All();
  layer.feed_forward_norm =
      weights_->Take(prefix + "post_attention_layernorm.weight", {config_.width}).All();
  layer.attention = ReferenceAttention::Take(config_, prefix + "self_attn.", weights_.get());
  if (index < config_.dense_layers) {
    layer.dense = TakeMlp(prefix + "mlp.", config_.dense_width);
    return layer;
  }
  layer.router = weights_->Take(prefix + "mlp.gate.weight", {config_.experts, config_.width});
  if (!config_.softmax_router)
    layer.bias =
        weights_->Take(prefix + "mlp.gate.e_score_correction_bias", {config_.experts}).All();
  for (int64_t e = 0; e < config_.experts; ++e)
    layer.experts.push_back(
        TakeMlp(prefix + "mlp.experts." + std::to_string(e) + ".", config_.expert_width));
  if (config_.shared_experts > 0)
    layer.shared =
        TakeMlp(prefix + "mlp.shared_experts.", config_.shared_experts * config_.expert_width);
  return layer;
}

Doubles ReferenceModel::RunMlp(const Mlp& mlp, const Doubles& x) {
  Doubles hidden = Multiply(x, mlp.gate);
  const Doubles up = Multiply(x, mlp.up);
  for (size_t i = 0; i < hidden.size(); ++i)
    hidden[i] = hidden[i] / (1.0 + std::exp(-hidden[i])) * up[i];
  return Multiply(hidden, mlp.down);
}

Doubles ReferenceModel::RunExperts(const Layer& layer, const Doubles& x,
                                   const LayerDecisions* theirs, double tie,
                                   DecisionAgreement* agreement) const {
  const int64_t tokens = static_cast<int64_t>(x.size()) / config_.width;
  const Doubles logits = Multiply(x, layer.router);
  std::vector<std::vector<std::pair<int64_t, double>>> work(layer.experts.size());  // token, weight
  for (int64_t t = 0; t < tokens; ++t) {
    const ExpertScores s = Score(config_, logits.data() + t * config_.experts, layer.bias);
    const std::vector<int32_t> chosen =
        ChooseExperts(config_, s.choice, t, tokens, theirs, tie, agreement);
    double sum = 0;
    for (const int32_t e : chosen) sum += s.scores[At(e)];
    for (const int32_t e : chosen)
      work[At(e)].emplace_back(t, config_.routed_scale * s.scores[At(e)] /
                                      (config_.normalize_weights ? sum + 1e-20 : 1.0));
  }
  Doubles y = config_.shared_experts > 0 ? RunMlp(layer.shared, x) : Doubles(x.size(), 0.0);
  for (size_t e = 0; e < work.size(); ++e) {
    Doubles rows;
    for (const auto& [t, weight] : work[e])
      rows.insert(rows.end(), x.begin() + t * config_.width, x.begin() + (t + 1) * config_.width);
    const Doubles out = RunMlp(layer.experts[e], rows);
    for (size_t r = 0; r < work[e].size(); ++r) {
      const auto [t, weight] = work[e][r];
      for (int64_t c = 0; c < config_.width; ++c)
        y[At(t * config_.width + c)] += weight * out[r * At(config_.width) + At(c)];
    }
  }
  return y;
}

ReferenceTrace ReferenceModel::Run(const std::vector<int32_t>& ids,
                                   const std::vector<LayerDecisions>* theirs, double tie) const {
  ReferenceTrace trace;
  Doubles x(ids.size() * At(config_.width));
  for (size_t t = 0; t < ids.size(); ++t) {
    LACUNA_CHECK(ids[t] >= 0 && ids[t] < config_.vocabulary, "token id {} of {}", ids[t],
                 config_.vocabulary);
    embedding_.Row(ids[t], x.data() + t * At(config_.width));
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const LayerDecisions* other = theirs == nullptr ? nullptr : &(*theirs)[i];
    ReferenceTrace::Layer& found = trace.layers.emplace_back();
    AddTo(&x, RunReferenceAttention(config_, layer.attention,
                                    RmsNormRows(x, layer.attention_norm, config_.eps),
                                    {.lists = other == nullptr ? nullptr : &other->blocks,
                                     .tokens = static_cast<int64_t>(ids.size()),
                                     .tie = tie,
                                     .agreement = &found.blocks}));
    const Doubles h = RmsNormRows(x, layer.feed_forward_norm, config_.eps);
    AddTo(&x, layer.experts.empty() ? RunMlp(layer.dense, h)
                                    : RunExperts(layer, h, other, tie, &found.experts));
  }
  trace.hidden = RmsNormRows(x, norm_, config_.eps);
  return trace;
}

Doubles ReferenceModel::Logits(const ReferenceTrace& trace, int64_t begin, int64_t end) const {
  return Multiply(Doubles(trace.hidden.begin() + begin * config_.width,
                          trace.hidden.begin() + end * config_.width),
                  head_);
}

}  // namespace lacuna
