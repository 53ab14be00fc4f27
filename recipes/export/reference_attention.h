// The attention layers of exported models in plain f64, one sequence from its first token, one
// query after the other. Softmax scale head_dim^-1/2 everywhere.
#pragma once

#include <string>

#include "recipes/export/reference_config.h"
#include "recipes/export/reference_selection.h"
#include "recipes/export/reference_weights.h"

namespace lacuna {

// Keys and values of one branch; full attention has one.
struct ReferenceBranch {
  ReferenceMatrix k_proj, v_proj;
  Doubles k_norm;  // empty without QK-norm
};

struct ReferencePhi {
  Doubles position;        // [l, D]; empty for the mean
  ReferenceMatrix w1, w2;  // of `linear`: w1 alone
};

struct ReferenceAttention {
  ReferenceMatrix q_proj, o_proj, gate_proj;
  Doubles q_norm;
  ReferenceBranch branches[3];  // full: the first; nsa: cmp, slc, win
  ReferencePhi phi_k, phi_v;

  // prefix: "model.layers.3.self_attn."
  static ReferenceAttention Take(const ReferenceConfig& config, const std::string& prefix,
                                 ReferenceWeights* weights);
};

// x [T, C], normalised -> [T, C]. Where `other` chose other blocks that are tied with those chosen
// here, its are used.
Doubles RunReferenceAttention(const ReferenceConfig& config, const ReferenceAttention& layer,
                              const Doubles& x, const OtherBlocks& other);

}  // namespace lacuna
