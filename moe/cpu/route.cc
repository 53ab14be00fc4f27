#include "moe/route.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/cpu/math.h"
#include "core/dispatch.h"
#include "core/parallel.h"

namespace lacuna::cpu {
namespace {

constexpr int64_t kRowsPerChunk = 64;
constexpr double kEpsilon = 1e-20;  // of the normalising sums, Glm4Moe's

template <class A>
void Scores(const RouteScoresArgs& args) {
  const int64_t experts = args.logits.dim(1);
  ParallelForChunks(
      args.logits.dim(0), kRowsPerChunk, 16 * experts, [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; ++n) {
          const A* logits = args.logits.As<A>() + n * experts;
          A* scores = args.scores.As<A>() + n * experts;
          const A top = *std::max_element(logits, logits + experts);
          A sum = 0;
          for (int64_t e = 0; e < experts; ++e) sum += Exp(logits[e] - top);
          const A lse = top + std::log(sum);
          args.lse.As<A>()[n] = lse;
          for (int64_t e = 0; e < experts; ++e)
            scores[e] =
                args.kind == RouterKind::kSigmoid ? Sigmoid(logits[e]) : Exp(logits[e] - lse);
        }
      });
}

template <class A>
void Choose(const ChooseExpertsArgs& args) {
  const int64_t experts = args.scores.dim(1), chosen = args.ids.dim(1);
  const A* bias = args.bias.defined() ? args.bias.As<A>() : nullptr;
  ParallelForChunks(
      args.scores.dim(0), kRowsPerChunk, (chosen + 1) * experts, [&](int64_t begin, int64_t end) {
        std::vector<A> value(static_cast<size_t>(experts));
        std::vector<int32_t> rest(
            static_cast<size_t>(experts));  // experts not chosen yet, ascending
        for (int64_t n = begin; n < end; ++n) {
          const A* scores = args.scores.As<A>() + n * experts;
          int32_t* ids = args.ids.As<int32_t>() + n * chosen;
          for (int64_t e = 0; e < experts; ++e) {
            value[static_cast<size_t>(e)] = bias == nullptr ? scores[e] : scores[e] + bias[e];
            rest[static_cast<size_t>(e)] = static_cast<int32_t>(e);
          }
          for (int64_t k = 0; k < chosen; ++k) {
            auto best = rest.begin();
            const auto last = rest.begin() + (experts - k);
            for (auto it = rest.begin(); it != last; ++it) {
              if (value[static_cast<size_t>(*it)] > value[static_cast<size_t>(*best)]) best = it;
            }
            ids[k] = *best;
            std::copy(best + 1, last, best);  // keeps the order, on which ties depend
          }
        }
      });
}

// Factor and sum of a row's weights: w_k = scale / divisor * s_k.
template <class A>
A Divisor(const A* scores, const int32_t* ids, int64_t chosen, bool normalize) {
  if (!normalize) return A(1);
  A sum = 0;
  for (int64_t k = 0; k < chosen; ++k) sum += scores[ids[k]];
  return sum + static_cast<A>(kEpsilon);
}

template <class A>
void Weights(const RouteWeightsArgs& args) {
  const int64_t experts = args.scores.dim(1), chosen = args.ids.dim(1);
  ParallelForChunks(args.scores.dim(0), kRowsPerChunk, 4 * chosen, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const A* scores = args.scores.As<A>() + n * experts;
      const int32_t* ids = args.ids.As<int32_t>() + n * chosen;
      A* weights = args.weights.As<A>() + n * chosen;
      const A divisor = Divisor(scores, ids, chosen, args.normalize);
      for (int64_t k = 0; k < chosen; ++k)
        weights[k] = scores[ids[k]] / divisor * static_cast<A>(args.scale);
    }
  });
}

// ds of one row, without the step from scores to logits.
//   w_k = scale s_k / D, D = sum_j s_j:  ds_k = scale / D (dw_k - sum_j dw_j s_j / D)
//   p_e = s_e / D over all e:            ds_e = (g_e - sum_j g_j p_j) / D,   g = aux_scale * load
template <class A>
void ScoreGradient(const RouteBwdArgs& args, int64_t n, A* ds) {
  const int64_t rows = args.scores.dim(0), experts = args.scores.dim(1), chosen = args.ids.dim(1);
  const A *scores = args.scores.As<A>() + n * experts,
          *dweights = args.dweights.As<A>() + n * chosen;
  const int32_t* ids = args.ids.As<int32_t>() + n * chosen;
  std::fill(ds, ds + experts, A(0));
  const A divisor = Divisor(scores, ids, chosen, args.normalize);
  A mean = 0;
  if (args.normalize) {
    for (int64_t k = 0; k < chosen; ++k) mean += dweights[k] * scores[ids[k]] / divisor;
  }
  for (int64_t k = 0; k < chosen; ++k)
    ds[ids[k]] = static_cast<A>(args.scale) / divisor * (dweights[k] - mean);
  if (!args.load.defined()) return;

  const double* load = args.load.As<double>() + n / (rows / args.load.dim(0)) * experts;
  if (args.kind == RouterKind::kSoftmax) {
    for (int64_t e = 0; e < experts; ++e) ds[e] += static_cast<A>(args.aux_scale * load[e]);
    return;
  }
  A sum = static_cast<A>(kEpsilon), dot = 0;
  for (int64_t e = 0; e < experts; ++e) {
    sum += scores[e];
    dot += static_cast<A>(args.aux_scale * load[e]) * scores[e];
  }
  for (int64_t e = 0; e < experts; ++e)
    ds[e] += (static_cast<A>(args.aux_scale * load[e]) - dot / sum) / sum;
}

template <class A>
void Bwd(const RouteBwdArgs& args) {
  const int64_t experts = args.scores.dim(1);
  ParallelForChunks(
      args.scores.dim(0), kRowsPerChunk, 20 * experts, [&](int64_t begin, int64_t end) {
        std::vector<A> ds(static_cast<size_t>(experts));
        for (int64_t n = begin; n < end; ++n) {
          ScoreGradient(args, n, ds.data());
          const A *scores = args.scores.As<A>() + n * experts,
                  *logits = args.logits.As<A>() + n * experts;
          A* dlogits = args.dlogits.As<A>() + n * experts;
          if (args.kind == RouterKind::kSigmoid) {
            for (int64_t e = 0; e < experts; ++e)
              dlogits[e] = ds[static_cast<size_t>(e)] * scores[e] * (A(1) - scores[e]);
          } else {
            A dot = 0;
            for (int64_t e = 0; e < experts; ++e) dot += ds[static_cast<size_t>(e)] * scores[e];
            for (int64_t e = 0; e < experts; ++e)
              dlogits[e] = scores[e] * (ds[static_cast<size_t>(e)] - dot);
          }
          if (args.z_scale == 0) continue;
          const A lse = args.lse.As<A>()[n], factor = static_cast<A>(2 * args.z_scale) * lse;
          for (int64_t e = 0; e < experts; ++e) dlogits[e] += factor * Exp(logits[e] - lse);
        }
      });
}

}  // namespace

void RouteScores(const RouteScoresArgs& args, Stream) {
  DispatchAccumulation(args.logits.dtype,
                       [&](auto tag) { Scores<typename decltype(tag)::type>(args); });
}

void ChooseExperts(const ChooseExpertsArgs& args, Stream) {
  DispatchAccumulation(args.scores.dtype,
                       [&](auto tag) { Choose<typename decltype(tag)::type>(args); });
}

void RouteWeights(const RouteWeightsArgs& args, Stream) {
  DispatchAccumulation(args.scores.dtype,
                       [&](auto tag) { Weights<typename decltype(tag)::type>(args); });
}

void RouteBwd(const RouteBwdArgs& args, Stream) {
  DispatchAccumulation(args.scores.dtype,
                       [&](auto tag) { Bwd<typename decltype(tag)::type>(args); });
}

}  // namespace lacuna::cpu
