// Rows by expert: token n's choice k becomes one routed row; routed rows stand by expert, within an
// expert in the order of (n, k).
//   offsets[e] = routed rows of the experts before e
//   position[n, k] = routed row of choice (n, k)                 (SortByExpert)
//   y[position[n, k]] = x[n]                                     (PermuteRows)
//   y[n] = sum_k w[n, k] x[position[n, k]], k ascending          (UnpermuteRows; w 1 if undefined)
// Without weights the last two are each other's transposes. An expert may have no row or all of
// them. Where may_be_none is set, id -1 is no choice: it has no routed row, its position is -1, and
// a position of -1 is passed over by the other two.
// ids: [N, K] i32 in [0, E); ids outside throw on the CPU, on CUDA they go to the nearest expert.
// offsets: [E + 1] i64   position: [N, K] i32, 0 .. R - 1 once each, R = N K without -1
// PermuteRows x: [N, C], y: [R, C]   UnpermuteRows x: [R, C], y: [N, C], w: [N, K] in the
// accumulation type of x. Sums in that type, rounded once. Every output is set.
// Both may be of some of the tokens that were sorted, position being theirs, and R the rows of all:
// UnpermuteRows reads the rows that are named, and PermuteRows, which is told (`some`), leaves others
// as they are.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct SortByExpertArgs {
  TensorRef ids, offsets, position;
  bool may_be_none = false;
};
struct PermuteRowsArgs {
  TensorRef x, position, y;
  bool some = false;
};
struct UnpermuteRowsArgs {
  TensorRef x, position, w, y;
};

namespace cpu {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
}  // namespace cpu
namespace cuda {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
}  // namespace cuda
namespace ops {
void SortByExpert(const SortByExpertArgs&, Stream);
void PermuteRows(const PermuteRowsArgs&, Stream);
void UnpermuteRows(const UnpermuteRowsArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
