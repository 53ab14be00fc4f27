// What the rules of a layer hold of a token: estimates for recipes/plan/memory.h, from what their
// closures save (autograd/functions, nsa/nsa_branches.cc, moe/functions.cc,
// moe/all_to_all_dispatcher.cc). Numbers of one token of this rank; experts' rows are counted per
// such token, too.
#pragma once

#include "recipes/schema/recipe.h"

namespace lacuna {

// Elements in the compute type and in the accumulation type (statistics), and i32 ids.
struct TokenMemory {
  double compute = 0;
  double accumulation = 0;
  double ids = 0;

  TokenMemory operator+(const TokenMemory& other) const {
    return {compute + other.compute, accumulation + other.accumulation, ids + other.ids};
  }
  TokenMemory operator*(double times) const {
    return {compute * times, accumulation * times, ids * times};
  }
  double Bytes(DType dtype) const;
};

// Kept until backward. The module's input is counted by whoever made it, its norm's output here.
TokenMemory AttentionKept(const Recipe& recipe);
TokenMemory DenseKept(const Recipe& recipe);
// Without the rows that came from other ranks (ReceivedKept). `overload`: rows of the rank's experts
// over the mean.
TokenMemory ExpertsKept(const Recipe& recipe, double overload);
TokenMemory ReceivedKept(const Recipe& recipe, double overload);
// What a recomputed module keeps all the same: decisions, and as train.recompute_keeps says the
// outputs of attention's kernels. Parts of AttentionKept and ExpertsKept.
TokenMemory AttentionNotRecomputed(const Recipe& recipe);
TokenMemory ExpertDecisions(const Recipe& recipe);

// The most that a module's backward pass holds beside what was kept, the gradient of the residual
// stream included.
TokenMemory AttentionWork(const Recipe& recipe);
TokenMemory DenseWork(const Recipe& recipe);
TokenMemory ExpertsWork(const Recipe& recipe, double overload);   // without rows on their way
TokenMemory ReceivedWork(const Recipe& recipe, double overload);  // these

}  // namespace lacuna
