// What of the model a rank holds and sends (section parallel).
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "recipes/schema/recipe.h"

namespace lacuna {

// A configuration error where parallel.expert, context or shard does not divide `ranks`.
absl::Status CheckMesh(const Recipe& recipe, int64_t ranks);

// Numbers of parameters that a rank holds something of.
struct RankShares {
  int64_t experts = 0;          // routed experts on this rank
  int64_t expert_weights = 0;   // of those, whose weights stay on this rank
  int64_t expert_updates = 0;   // of those, whose gradient and optimizer state are this rank's
  int64_t others = 0;           // all parameters that are not routed experts
  int64_t other_weights = 0;    // of those, whose weights stay on this rank
  int64_t other_updates = 0;    // of those, whose gradient and optimizer state are this rank's
  int64_t expert_replicas = 1;  // groups of ranks that hold the same experts
  // Over which shares of what is no part are cut, and how many ranks have the same one.
  int64_t share_ranks = 1, copies = 1;
};
RankShares SharesOf(const Recipe& recipe, int64_t ranks);

// Parameters that are gathered for a while with parallel.zero 3 (distributed/weight_gatherer.h): all
// but the experts', and those, too, where a rank has all experts. What a bucket has of other stages
// comes with it and is not counted here.
struct GatheredWeights {
  double head = 0;
  double layer = 0;  // one of the last
  // All forward, a tied head once more; in backward the layers but the last, which is still there.
  double micro_batch = 0;
};
GatheredWeights GatheredBy(const Recipe& recipe);

// Elements of the keys and values of all branches of a layer, a token.
double KeysAndValues(const Recipe& recipe);

// Of the rows that the experts of all ranks get on average, what the fullest rank is planned for.
inline constexpr double kPlannedOverload = 1.3;

// A token takes K of E experts one after the other without replacement; one rank of P, which has E /
// P of them, is `factor` times as likely a choice as another: the chance that the token has a choice
// there, and how many it has there on average.
struct RankArrivals {
  double rows = 0, choices = 0;
};
RankArrivals ArrivalsOf(int64_t experts, int64_t per_token, int64_t ranks, double factor);
// The factor with which that rank gets `overload` times an even share of the choices, overload >= 1
// and below min(K, E / P) P / K.
double ArrivalFactor(int64_t experts, int64_t per_token, int64_t ranks, double overload);

// Rows that a rank's experts get for each token of its own, tokens of P = parallel.expert ranks
// together.
double ArrivingRows(const Recipe& recipe, double overload);
// Ranks to which the experts of a token belong, on average over uniform routing: a token's row is
// sent to each of them once.
//   P (1 - C(E - E / P, K) / C(E, K))
double ExpectedDestinations(const Recipe& recipe);
// Those of them that are not the token's own rank: (P - 1) / P of it.
double ExpectedRemoteDestinations(const Recipe& recipe);

}  // namespace lacuna
