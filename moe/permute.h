// Rows by expert: token n's choice k becomes one routed row; routed rows stand by expert, within an
// expert in the order of (n, k).
//   offsets[e] = routed rows of the experts before e,  position[n, k] = routed row of choice (n,
//     k)            (SortByExpert)
//   y[position[n, k]] = w[n, k]
//     x[n]                                                                           (PermuteRows)
//   y[n] = sum_k w[n, k] x[position[n, k]], k
//     ascending                                                        (UnpermuteRows)
//   dw[n, k] = sum_c dy[n, c] x[position[n, k],
//     c]                                                             (UnpermuteDw)
// Each of the middle two is the other's transpose; w is 1 where undefined. An expert may have no
// row or all of them.
// ids: [N, K] i32 in [0, E); ids outside throw on the CPU, on CUDA they go to the nearest expert.
// offsets: [E + 1] i64   position: [N, K] i32, a permutation of 0 .. R - 1, R = N K
// PermuteRows x: [N, C], y: [R, C]   UnpermuteRows x: [R, C], y: [N, C]   UnpermuteDw dy: [N, C],
//   x: [R, C]   w, dw: [N, K] in the
// accumulation type of x. Sums in that type, rounded once. Every output is set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct SortByExpertArgs {
  TensorRef ids, offsets, position;
};
struct PermuteRowsArgs {
  TensorRef x, position, w, y;
};
struct UnpermuteRowsArgs {
  TensorRef x, position, w, y;
};
struct UnpermuteDwArgs {
  TensorRef dy, x, position, dw;
};

namespace cpu {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
void UnpermuteDw(const UnpermuteDwArgs&, Stream);
}  // namespace cpu
namespace cuda {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
void UnpermuteDw(const UnpermuteDwArgs&, Stream);
}  // namespace cuda
namespace ops {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
void UnpermuteDw(const UnpermuteDwArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
