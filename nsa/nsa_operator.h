// The whole NSA operator on projected inputs, as differentiable functions on a tape (arXiv
// 2502.11089, section 3).
//   q, k_slc, k_win rotated;  Kc = RoPE(phi_k(blocks of k_cmp)), Vc = phi_v(blocks of v_cmp)
//   o = gate_cmp Attn(q, Kc, Vc) + gate_slc Attn(q, k_slc, v_slc | selected blocks) + gate_win
//     Attn(q, k_win, v_win | window)
// Softmax scale Dk^-1/2 in all branches. The selection is a decision of the tape: a recomputed
// segment replays it.
#pragma once

#include <memory>

#include "autograd/tape.h"
#include "core/rope_table.h"
#include "nsa/nsa_config.h"
#include "nsa/nsa_grid.h"
#include "nsa/phi.h"

namespace lacuna {

// Before RoPE. q: [N, H, Dk]   k_*: [N, G, Dk]   v_*: [N, G, Dv]   gate: [N, H, 3] accumulation
//   type, after the sigmoid, in the
// order cmp, slc, win
struct NsaInputs {
  Variable q, k_cmp, v_cmp, k_slc, v_slc, k_win, v_win, gate;
};

struct NsaOptions {
  Tensor blocks;         // uses these lists instead of choosing
  bool scores = false;   // fill NsaResult::scores
  bool entropy = false;  // fill NsaResult::entropy
};

struct NsaResult {
  Variable o;                    // [N, H, Dv]
  Variable o_cmp, o_slc, o_win;  // [N, H, Dv] before the gates
  Tensor k_cmp, v_cmp;           // [Tc, G, D] compressed, keys rotated
  Tensor k_slc, k_win;           // [N, G, Dk] rotated
  Tensor blocks;                 // [N, G, n] i32, see nsa/select_blocks.h
  Tensor scores, entropy;        // if asked for and chosen here (not in a replay)
};

// `rope` must be prepared for the longest document.
NsaResult NsaOperator(Tape& tape, NsaInputs inputs, Phi& phi_k, Phi& phi_v,
                      const std::shared_ptr<const NsaGrid>& grid, const RopeTable& rope,
                      const NsaConfig& config, const NsaOptions& options = {});

// What follows rotation and compression: q, k_slc, k_win rotated; k_cmp, v_cmp the compressed rows
// [Tc, G, D], keys rotated.
NsaResult AttendBranches(Tape& tape, const NsaInputs& inputs,
                         const std::shared_ptr<const NsaGrid>& grid, const NsaConfig& config,
                         const NsaOptions& options = {});

// The parts of it that a cache needs on their own.
Variable SelectedAttention(Tape& tape, const Variable& q, const Variable& k, const Variable& v,
                           const Tensor& blocks, const Tensor& positions, const Tensor& cu_queries,
                           const Tensor& cu_keys, int64_t select_block, double scale);
Variable GateCombine(Tape& tape, const Variable& gate, const Variable& o_cmp, const Variable& o_slc,
                     const Variable& o_win);

}  // namespace lacuna
