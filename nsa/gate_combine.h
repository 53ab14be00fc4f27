// The gated sum of NSA's branches. NSA (arXiv 2502.11089), eq. 5.
//   o[n, h] = sum_c gate[n, h, c] * o_c[n, h],   c in {cmp, slc, win}
//   do_c = gate_c * do,   dgate_c = do . o_c
// gate, dgate: [N, H, 3] accumulation type   o, o_c, d_o, do_c: [N, H, Dv]
// Products and the sum in the accumulation type, rounded once. All outputs are set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GateCombineFwdArgs {
  TensorRef gate, o_cmp, o_slc, o_win, o;
};
struct GateCombineBwdArgs {
  TensorRef gate, o_cmp, o_slc, o_win, d_o, dgate, do_cmp, do_slc, do_win;
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
