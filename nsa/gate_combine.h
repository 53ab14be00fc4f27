// The gated sum of NSA's branches. NSA (arXiv 2502.11089), eq. 5.
//   o[n, h] = sum_c gate[n, h, c] * o_c[n, h],   c in {cmp, slc, win}
//   delta_c = dgate_c = do . o_c,   weighted_lse_c = lse_c - log gate_c
// With these two and do a branch's backward pass needs no gate_c do of its own (core/ops/attention.h).
//
// o, o_c, d_o: [N, H, Dv]   the rest in the accumulation type: gate, dgate: [N, H, 3]
// lse_c: [N, H]   delta, weighted_lse: [3, N, H]
// Products and the sum in the accumulation type, rounded once; o has the same bits by itself and along
// with a branch's call. All outputs are set. A row of a branch that saw no key, lse_c = -inf, stays one.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GateCombineFwdArgs {
  TensorRef gate, o_cmp, o_slc, o_win, o;
};
// That of a branch's call which takes the others' outputs along (nsa/selected_attention.h).
template <class Args>
GateCombineFwdArgs GatedSumOf(const Args& slc) {
  return {slc.gate, slc.o_cmp, slc.o, slc.o_win, slc.o_sum};
}
struct GateCombineBwdArgs {
  TensorRef gate, o_cmp, o_slc, o_win, lse_cmp, lse_slc, lse_win, d_o, dgate, delta, weighted_lse;
};

namespace cpu {
void GateCombineFwd(const GateCombineFwdArgs&, Stream);
void GateCombineBwd(const GateCombineBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void GateCombineFwd(const GateCombineFwdArgs&, Stream);
void GateCombineBwd(const GateCombineBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void GateCombineFwd(const GateCombineFwdArgs&, Stream);
void GateCombineBwd(const GateCombineBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
