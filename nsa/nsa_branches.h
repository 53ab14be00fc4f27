// NSA's three branches and their gated sum (arXiv 2502.11089, eq. 5) as one differentiable function:
//   o = gate_cmp Attn(q, Kc, Vc) + gate_slc Attn(q, k_slc, v_slc | selected blocks) + gate_win
//     Attn(q, k_win, v_win | window)
// Softmax scale Dk^-1/2 in all branches. The selection is a decision of the tape: a recomputed
// segment replays it. The branches' outputs before the gates are costly (Tape::Costly); where they
// were kept their sum is made anew, to the same bits. One function and not five, so that the backward
// pass reads do and the branches' outputs once (nsa/gate_combine.h), and the branches add their dq to
// one tensor.
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "nsa/nsa_config.h"
#include "nsa/nsa_grid.h"

namespace lacuna {

// q: [N, H, Dk]   k_*: [N, G, Dk]   v_*: [N, G, Dv]   gate: [N, H, 3] accumulation type, after the
// sigmoid, in the order cmp, slc, win
struct NsaInputs {
  Variable q, k_cmp, v_cmp, k_slc, v_slc, k_win, v_win, gate;
};

struct NsaOptions {
  Tensor blocks;         // uses these lists instead of choosing
  bool scores = false;   // fill NsaBranches::scores
  bool entropy = false;  // fill NsaBranches::entropy
};

struct NsaBranches {
  Variable o;                  // [N, H, Dv]
  Tensor o_cmp, o_slc, o_win;  // [N, H, Dv] before the gates
  Tensor blocks;               // [N, G, n] i32, see nsa/select_blocks.h
  Tensor scores, entropy;      // if asked for and chosen here (not in a replay)
};

// q, k_slc, k_win rotated; k_cmp, v_cmp the compressed rows [Tc, G, D], keys rotated.
NsaBranches AttendBranches(Tape& tape, const NsaInputs& inputs,
                           const std::shared_ptr<const NsaGrid>& grid, const NsaConfig& config,
                           const NsaOptions& options = {});

}  // namespace lacuna
