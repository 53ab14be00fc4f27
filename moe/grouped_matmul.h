// Matrix products by expert: rows offsets[e] .. offsets[e + 1] of x go through matrix e of w.
//   y[r] = x[r] w[e]^T   (transpose_w: x [R, Cin], w [E, Cout, Cin], y [R,
//     Cout])                              (GroupedMatMul)
//   y[r] = x[r] w[e]     (otherwise:   x [R, Cout], w [E, Cout, Cin], y [R, Cin]; the gradient of
//     x)
//   dw[e] += dy_e^T x_e  over the rows of e (= where not `accumulate`): dy [R, Cout], x [R, Cin],
//     dw [E, Cout, Cin]                                            (GroupedMatMulDw)
// offsets: [E + 1] i64, non-decreasing from 0 to R; others throw on the CPU, on CUDA, where the
// host does not see them, the products are wrong but stay inside y and dw.
// x, w, y, dy: one dtype; dw: its accumulation type. Sums in the accumulation type.
// y is set, dw is accumulated or set. Experts without rows are never read and leave dw[e] as it is,
// or zero.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GroupedMatMulArgs {
  TensorRef x, w, offsets, y;
  bool transpose_w = true;
};
struct GroupedMatMulDwArgs {
  TensorRef dy, x, offsets, dw;
  bool accumulate = true;
};

namespace cpu {
void GroupedMatMul(const GroupedMatMulArgs&, Stream);
void GroupedMatMulDw(const GroupedMatMulDwArgs&, Stream);
}  // namespace cpu
namespace cuda {
void GroupedMatMul(const GroupedMatMulArgs&, Stream);
void GroupedMatMulDw(const GroupedMatMulDwArgs&, Stream);
}  // namespace cuda
namespace ops {
void GroupedMatMul(const GroupedMatMulArgs&, Stream);
void GroupedMatMulDw(const GroupedMatMulDwArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
