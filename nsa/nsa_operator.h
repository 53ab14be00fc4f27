// The whole NSA operator on projected inputs, as a differentiable function on a tape (arXiv
// 2502.11089, section 3): rotation, compression, then the branches (nsa/nsa_branches.h).
//   q, k_slc, k_win rotated;  Kc = RoPE(phi_k(blocks of k_cmp)), Vc = phi_v(blocks of v_cmp)
#pragma once

#include <memory>

#include "core/rope_table.h"
#include "nn/context_share.h"
#include "nsa/nsa_branches.h"
#include "nsa/phi.h"

namespace lacuna {

struct NsaResult : NsaBranches {
  Tensor k_cmp, v_cmp;  // [Tc, G, D] compressed, keys rotated
  Tensor k_slc, k_win;  // [N, G, Dk] rotated
};

// `inputs` before RoPE and compression. `rope` must be prepared for the longest document. Of a rank of
// a context group `inputs` are its rows', and so is o; `grid` has them as its queries. Keys and values
// are gathered, those of the compressed branch before phi: every rank compresses all of them, and its
// gradients of phi, which come from its own queries, are a part of a sum as other parameters' are.
NsaResult NsaOperator(Tape& tape, NsaInputs inputs, Phi& phi_k, Phi& phi_v,
                      const std::shared_ptr<const NsaGrid>& grid, const RopeTable& rope,
                      const NsaConfig& config, const NsaOptions& options = {},
                      const ContextShare* context = nullptr);

}  // namespace lacuna
