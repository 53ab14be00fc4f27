// The router: scores of all experts, the choice of K of them, and the weights of the chosen.
//   sigmoid: s = 1 / (1 + exp(-logit))      softmax: s = exp(logit - lse)      lse = log sum_e
//     exp(logit_e)   (both kinds)
//   ids of a row = the K largest of s + bias, largest first, equal values by the lowest
//     expert              (ChooseExperts)
//   w_k = scale * u_k,   u_k = s_k / (sum_j s_j + 1e-20) over the chosen if normalised, s_k
//     otherwise       (RouteWeights)
// The bias decides the choice only; it never enters a weight. (DeepSeek-V3, arXiv 2412.19437,
// section 2.1.2; Glm4Moe.) Among NaN scores the choice is arbitrary, but K different experts all
// the same.
//
// RouteBwd: the gradient of the weights, and injected into it those of the auxiliary losses, which
// no output carries.
//   ds  = dw through w_k, the chosen only
//   ds += d/ds of aux_scale * sum_n sum_e load[sample(n), e] p_ne,   p = s (softmax) or s / (sum_e
//     s_e + 1e-20) (sigmoid)
//   dlogit = ds through s, += z_scale * 2 lse * exp(logit - lse)
// logits, scores, dlogits: [N, E]; lse: [N]; weights, dweights: [N, K], all of one accumulation
// type (f32, or f64).
// bias: [E] of that type, or undefined. ids: [N, K] i32 in [0, E), not checked (CUDA reads the
// nearest expert). load: [S, E] f64 with N divisible by S
// (sample(n) = n / (N / S)), or undefined. Every output is set.
#pragma once

#include "core/tensor_ref.h"
#include "moe/moe_config.h"

namespace lacuna {

struct RouteScoresArgs {
  TensorRef logits, scores, lse;
  RouterKind kind;
};
struct ChooseExpertsArgs {
  TensorRef scores, bias, ids;
};
struct RouteWeightsArgs {
  TensorRef scores, ids, weights;
  bool normalize;
  double scale;
};
struct RouteBwdArgs {
  TensorRef logits, scores, lse, ids, dweights, load, dlogits;
  RouterKind kind;
  bool normalize;
  double scale;
  double aux_scale = 0;
  double z_scale = 0;
};

namespace cpu {
void RouteScores(const RouteScoresArgs&, Stream);
void ChooseExperts(const ChooseExpertsArgs&, Stream);
void RouteWeights(const RouteWeightsArgs&, Stream);
void RouteBwd(const RouteBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void RouteScores(const RouteScoresArgs&, Stream);
void ChooseExperts(const ChooseExpertsArgs&, Stream);
void RouteWeights(const RouteWeightsArgs&, Stream);
void RouteBwd(const RouteBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void RouteScores(const RouteScoresArgs&, Stream);
void ChooseExperts(const ChooseExpertsArgs&, Stream);
void RouteWeights(const RouteWeightsArgs&, Stream);
void RouteBwd(const RouteBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
