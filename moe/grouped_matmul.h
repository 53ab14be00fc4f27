// Matrix products by expert: its rows of x go through matrix e of w.
//   y[r] = x[r] w[e]^T   (transpose_w: x [R, Cin], w [E, Cout, Cin], y [R,
//     Cout])                              (GroupedMatMul)
//   y[r] = x[r] w[e]     (otherwise:   x [R, Cout], w [E, Cout, Cin], y [R, Cin]; the gradient of
//     x)
//   dw[e] += dy_e^T x_e  over the rows of e (= where not `accumulate`): dy [R, Cout], x [R, Cin],
//     dw [E, Cout, Cin]                                            (GroupedMatMulDw)
// Rows stand by expert, an expert's by chunk (P of them, usually 1): those of (e, p) are
// offsets[e P + p] .. offsets[e P + p + 1].
// offsets: [E P + 1] i64, non-decreasing from 0 to R; others throw on the CPU, on CUDA, where the
// host does not see them, the products are wrong but stay inside y and dw.
// x, w, y, dy: one dtype; dw: its accumulation type. Sums in the accumulation type.
// y is set, where `chunk` names one its rows alone: others are neither read nor written. dw is
// accumulated or set. Experts without rows are never read and leave dw[e] as it is, or zero.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

inline constexpr int64_t kAllChunks = -1;

struct GroupedMatMulArgs {
  TensorRef x, w, offsets, y;
  bool transpose_w = true;
  int64_t chunks = 1, chunk = kAllChunks;
};
struct GroupedMatMulDwArgs {
  TensorRef dy, x, offsets, dw;
  bool accumulate = true;
  int64_t chunks = 1;
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
// Throws where `chunk` is neither one of them nor all.
void CheckChunk(const char* op, int64_t chunks, int64_t chunk);
void GroupedMatMul(const GroupedMatMulArgs&, Stream);
void GroupedMatMulDw(const GroupedMatMulDwArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
