#include "moe/router.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/ops/elementwise.h"
#include "core/stream.h"
#include "moe/bias_update.h"
#include "moe/expert_load.h"
#include "moe/functions.h"
#include "moe/route.h"
#include "nn/metrics.h"

namespace lacuna {
namespace {

Tensor Count(const Tensor& ids, int64_t samples, int64_t experts, Stream stream) {
  Tensor counts = Tensor::Empty({samples, experts}, DType::kF64, ids.device());
  ops::CountChoices({.ids = ids.Ref(), .counts = counts.MutableRef()}, stream);
  return counts;
}

// Without rows the names are there all the same, with weight 0: every rank must have the same ones.
// `own`: of this rank, where ranks share the micro-batch.
void ReportLoad(Metrics& metrics, const std::string& name, const std::vector<double>& counts,
                const std::vector<double>& own, const Tensor& lse) {
  const double experts = static_cast<double>(counts.size());
  double sum = 0, largest = 0, unused = 0, entropy = 0, z = 0;
  for (const double c : counts) sum += c;
  for (const double c : counts) {
    largest = std::max(largest, c);
    if (c == 0) {
      unused += 1;
    } else {
      entropy -= c / sum * std::log(c / sum);
    }
  }
  for (const double value : lse.ToDoubles()) z += value * value;
  const double weight = sum == 0 ? 0 : 1;
  metrics.AddVector(name + ".tokens_per_expert", own);
  metrics.Add(name + ".max_load", sum == 0 ? 0 : largest * experts / sum, weight);
  metrics.Add(name + ".unused_experts", weight * unused / experts, weight);
  metrics.Add(name + ".load_entropy", counts.size() == 1 ? weight : entropy / std::log(experts),
              weight);
  metrics.Add(name + ".router_z", z, static_cast<double>(lse.dim(0)));
}

}  // namespace

struct Router::Saved {
  SavedTensor logits, scores, lse;
  Tensor ids;
  Tensor counts;        // [1, E] of the micro-batch
  int64_t samples = 1;  // of the sequence scope
  double share = 1;
  const ContextShare* context = nullptr;
  Metrics* metrics = nullptr;
  std::string report_as;
  Stream stream;
};

Router::Router(int64_t width, const MoeConfig& config, double init_std, DType dtype, Device device)
    : config_(config),
      accumulation_(AccumulationType(dtype)),
      weight_(&AddParameter("weight", {config.num_experts, width}, Init::Normal(init_std))),
      step_counts_(Tensor::Zeros({config.num_experts}, DType::kF64, device)) {
  if (config.router == RouterKind::kSoftmax) return;
  bias_ = Tensor::Zeros({config.num_experts}, accumulation_, device);
  AddBuffer("e_score_correction_bias", &bias_);
}

Routing Router::Forward(ForwardContext& ctx, const Variable& x, const std::string& report_as) {
  const Stream stream = ctx.stream();
  const int64_t rows = x.dim(0), experts = config_.num_experts;
  const Variable logits = WideLinear(ctx.tape, x, *weight_);
  Tensor scores = Tensor::EmptyLike(logits.value()),
         lse = Tensor::Empty({rows}, accumulation_, x.value().device());
  ops::RouteScores({.logits = logits.value().Ref(),
                    .scores = scores.MutableRef(),
                    .lse = lse.MutableRef(),
                    .kind = config_.router},
                   stream);
  const Tensor ids = ctx.tape.Decide([&]() -> std::vector<Tensor> {
    Tensor chosen =
        Tensor::Empty({rows, config_.experts_per_token}, DType::kI32, x.value().device());
    ops::ChooseExperts({.scores = scores.Ref(), .bias = bias_.Ref(), .ids = chosen.MutableRef()},
                       stream);
    if (observer_) observer_(scores, bias_, chosen);
    return {chosen};
  })[0];
  Tensor weights = Tensor::Empty(ids.shape(), accumulation_, ids.device());
  ops::RouteWeights({.scores = scores.Ref(),
                     .ids = ids.Ref(),
                     .weights = weights.MutableRef(),
                     .normalize = config_.normalize_weights,
                     .scale = config_.routed_scale},
                    stream);
  const Tensor counts = Count(ids, 1, experts, stream);
  if (Metrics* metrics = ctx.reporting()) {
    Tensor of_all = counts;
    if (ctx.context != nullptr) {
      of_all = counts.Clone();
      ctx.context->Sum(of_all);
    }
    metrics->AddLater({of_all, counts, lse}, [report_as](Metrics& m, const std::vector<Tensor>& t) {
      ReportLoad(m, report_as, t[0].ToDoubles(), t[1].ToDoubles(), t[2]);
    });
  }

  Saved saved{.logits = SavedTensor(logits.value()),
              .scores = SavedTensor(scores),
              .lse = SavedTensor(lse),
              .ids = ids,
              .counts = counts,
              .share = ctx.micro_batch_share,
              .context = ctx.context,
              .metrics = ctx.metrics,
              .report_as = report_as,
              .stream = stream};
  if (config_.aux_loss == AuxLossScope::kSequence && ctx.tape.recording()) {
    LACUNA_CHECK(ctx.rows_per_sample > 0 && rows % ctx.rows_per_sample == 0,
                 "{}: {} rows do not hold samples of {} rows", report_as, rows,
                 ctx.rows_per_sample);
    saved.samples = std::max<int64_t>(1, rows / ctx.rows_per_sample);
  }
  Variable output =
      ctx.tape.Record("router", {logits}, {}, std::move(weights),
                      [this, saved = std::move(saved)](GradContext& g) { Backward(saved, g); });
  return {std::move(output), ids};
}

Tensor Router::BalanceLoad(const Saved& saved) {
  Tensor load;
  switch (config_.aux_loss) {
    case AuxLossScope::kNone:
      return load;
    case AuxLossScope::kMicroBatch:
      load = saved.counts.Clone();
      break;
    case AuxLossScope::kSequence:
      load = Count(saved.ids, saved.samples, config_.num_experts, saved.stream);
      break;
    case AuxLossScope::kGlobalBatch: {
      Tensor total = step_counts_.Clone();
      if (count_reducer_) count_reducer_(total);
      load = total.Reshape({1, config_.num_experts});
      break;
    }
  }
  const bool of_rows = config_.aux_loss != AuxLossScope::kGlobalBatch;
  if (of_rows && saved.context != nullptr) saved.context->Sum(load);
  ops::NormalizeLoad({.counts = load.MutableRef()}, saved.stream);
  return load;
}

void Router::Backward(const Saved& saved, GradContext& g) {
  const Tensor& scores = saved.scores.get();
  const double rows = static_cast<double>(std::max<int64_t>(1, scores.dim(0)));
  ops::Add({.a = step_counts_.Ref(),
            .b = saved.counts.Reshape({config_.num_experts}).Ref(),
            .y = step_counts_.MutableRef()},
           saved.stream);

  // L = coef E / N sum_n sum_e f[sample(n), e] p_ne in every scope, samples being equally long.
  const double coefficient = config_.aux_loss_coef * static_cast<double>(config_.num_experts);
  const Tensor load = BalanceLoad(saved);
  if (load.defined() && saved.metrics != nullptr) {
    Tensor mean = Tensor::EmptyLike(load);
    ops::MeanProbabilities(
        {.scores = scores.Ref(), .mean = mean.MutableRef(), .kind = config_.router}, saved.stream);
    saved.metrics->AddLater({load, mean}, [name = saved.report_as + ".aux_loss", coefficient](
                                              Metrics& metrics, const std::vector<Tensor>& t) {
      const std::vector<double> f = t[0].ToDoubles(), p = t[1].ToDoubles();
      double loss = 0;
      for (size_t i = 0; i < f.size(); ++i) loss += f[i] * p[i];
      metrics.Add(name, coefficient * loss / static_cast<double>(t[0].dim(0)), 1);
    });
  }
  Tensor dlogits = Tensor::EmptyLike(scores);
  ops::RouteBwd({.logits = saved.logits.get().Ref(),
                 .scores = scores.Ref(),
                 .lse = saved.lse.get().Ref(),
                 .ids = saved.ids.Ref(),
                 .dweights = g.dy().Ref(),
                 .load = load.Ref(),
                 .dlogits = dlogits.MutableRef(),
                 .kind = config_.router,
                 .normalize = config_.normalize_weights,
                 .scale = config_.routed_scale,
                 .aux_scale = coefficient * saved.share / rows,
                 .z_scale = config_.z_loss_coef * saved.share / rows},
                saved.stream);
  g.Set(0, std::move(dlogits));
}

void Router::UpdateBias() {
  if (!bias_.defined() || config_.bias_update_rate == 0) return;
  ops::UpdateBias(
      {.counts = step_counts_.Ref(), .bias = bias_.MutableRef(), .rate = config_.bias_update_rate},
      ComputeStream(bias_.device()));
}

}  // namespace lacuna
