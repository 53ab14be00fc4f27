// RMS normalisation of rows (Zhang and Sennrich, 2019).
//   y = x * rstd * w,   rstd = 1 / sqrt(mean(x^2) + eps)
//   dx = rstd * (w dy - xhat * mean(xhat w dy)) [+ add],   dw += sum_rows dy * xhat,   xhat = x *
//     rstd
// x, y, dy, dx: [N, C]   w: [C]   rstd: [N] and dw: [C] in the accumulation type (f32; f64 for
//   f64). dx is set, dw is accumulated.
// add: [N, C] or undefined: what other users of x gave for dx, a residual connection; dx may be it.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct RmsNormFwdArgs {
  TensorRef x, w, y, rstd;
  double eps;
};
struct RmsNormBwdArgs {
  TensorRef x, w, rstd, dy, add = {}, dx, dw;
};

namespace cpu {
void RmsNormFwd(const RmsNormFwdArgs&, Stream);
void RmsNormBwd(const RmsNormBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void RmsNormFwd(const RmsNormFwdArgs&, Stream);
void RmsNormBwd(const RmsNormBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void RmsNormFwd(const RmsNormFwdArgs&, Stream);
void RmsNormBwd(const RmsNormBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
