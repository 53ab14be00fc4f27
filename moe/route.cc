#include "moe/route.h"

#include "core/kernel.h"
#include "core/ops/check.h"
#include "moe/expert_limit.h"

namespace lacuna::ops {
namespace {

constinit const Kernel<RouteScoresArgs> kRouteScores{
    "route_scores", "logits =scores =lse", cpu::RouteScores, LACUNA_IF_CUDA(cuda::RouteScores)};
constinit const Kernel<ChooseExpertsArgs> kChooseExperts{
    "choose_experts", "scores bias ?ids", cpu::ChooseExperts, LACUNA_IF_CUDA(cuda::ChooseExperts)};
constinit const Kernel<RouteWeightsArgs> kRouteWeights{
    "route_weights", "scores ids =weights", cpu::RouteWeights, LACUNA_IF_CUDA(cuda::RouteWeights)};
constinit const Kernel<RouteBwdArgs> kRouteBwd{"route_bwd",
                                               "logits scores lse ids dweights load =dlogits",
                                               cpu::RouteBwd, LACUNA_IF_CUDA(cuda::RouteBwd)};

// `scores` is [N, E] in an accumulation type and `ids` [N, K] with 1 <= K <= E.
void CheckChoice(const char* op, const TensorRef& scores, const TensorRef& ids) {
  LACUNA_CHECK(scores.rank == 2 && IsFloating(scores.dtype) &&
                   scores.dtype == AccumulationType(scores.dtype),
               "{}: scores must be [N, E] f32 or f64, got {}", op, Describe(scores));
  LACUNA_CHECK(ids.rank == 2 && ids.dim(0) == scores.dim(0) && ids.dim(1) >= 1 &&
                   ids.dim(1) <= scores.dim(1),
               "{}: ids {} for scores {}", op, Describe(ids), Describe(scores));
  CheckDType(op, "ids", ids, DType::kI32);
}

}  // namespace

void RouteScores(const RouteScoresArgs& args, Stream stream) {
  constexpr const char* kOp = "route_scores";
  LACUNA_CHECK(args.logits.rank == 2 && args.logits.dim(1) >= 1 &&
                   args.logits.dtype == AccumulationType(args.logits.dtype),
               "{}: logits must be [N, E] f32 or f64, got {}", kOp, Describe(args.logits));
  CheckShape(kOp, "scores", args.scores, {args.logits.dim(0), args.logits.dim(1)});
  CheckShape(kOp, "lse", args.lse, {args.logits.dim(0)});
  CheckDType(kOp, "scores", args.scores, args.logits.dtype);
  CheckDType(kOp, "lse", args.lse, args.logits.dtype);
  kRouteScores(args, stream);
}

void ChooseExperts(const ChooseExpertsArgs& args, Stream stream) {
  constexpr const char* kOp = "choose_experts";
  CheckChoice(kOp, args.scores, args.ids);
  if (args.bias.defined()) {
    CheckShape(kOp, "bias", args.bias, {args.scores.dim(1)});
    CheckDType(kOp, "bias", args.bias, args.scores.dtype);
  }
  CheckNumExperts(kOp, args.scores.dim(1), stream);
  kChooseExperts(args, stream);
}

void RouteWeights(const RouteWeightsArgs& args, Stream stream) {
  constexpr const char* kOp = "route_weights";
  CheckChoice(kOp, args.scores, args.ids);
  CheckShape(kOp, "weights", args.weights, {args.ids.dim(0), args.ids.dim(1)});
  CheckDType(kOp, "weights", args.weights, args.scores.dtype);
  kRouteWeights(args, stream);
}

void RouteBwd(const RouteBwdArgs& args, Stream stream) {
  constexpr const char* kOp = "route_bwd";
  CheckChoice(kOp, args.scores, args.ids);
  const int64_t rows = args.scores.dim(0), experts = args.scores.dim(1);
  CheckShape(kOp, "logits", args.logits, {rows, experts});
  CheckShape(kOp, "lse", args.lse, {rows});
  CheckShape(kOp, "dweights", args.dweights, {rows, args.ids.dim(1)});
  CheckShape(kOp, "dlogits", args.dlogits, {rows, experts});
  CheckDType(kOp, "logits", args.logits, args.scores.dtype);
  CheckDType(kOp, "lse", args.lse, args.scores.dtype);
  CheckDType(kOp, "dweights", args.dweights, args.scores.dtype);
  CheckDType(kOp, "dlogits", args.dlogits, args.scores.dtype);
  if (args.load.defined()) {
    LACUNA_CHECK(args.load.rank == 2 && args.load.dim(0) >= 1 && args.load.dim(1) == experts &&
                     rows % args.load.dim(0) == 0,
                 "{}: load {} for scores {}", kOp, Describe(args.load), Describe(args.scores));
    CheckDType(kOp, "load", args.load, DType::kF64);
  }
  CheckNumExperts(kOp, experts, stream);
  kRouteBwd(args, stream);
}

}  // namespace lacuna::ops
