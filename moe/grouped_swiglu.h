// SwiGLU between the two products of routed experts.
//   z[r] = x[r] w[e]^T, rows by expert as in moe/grouped_matmul.h,   h = SwiGLU(z)   (GroupedSwiGlu)
// Backward of y[n] = sum_k w[n, k] h[r] down[e]^T, r = position[n, k], from dy[r], the gradient of y[n]
// by expert:                                                       (RoutedSwiGluBwd)
//   dh[r]    = dy[r] down[e]     the gradient of h[r] without its weight; not stored
//   dw[n, k] = dh[r] . h[r]      the same as dy[r] . (h[r] down[e]^T), without that being kept
//   dz[r]    = dSwiGLU(z[r], w[n, k] dh[r])
//   wh[r]    = w[n, k] h[r]      what the gradient of down is taken with
// x: [R, C]   w of the product: [E, 2F, C], gate rows first   down: [E, C, F]
// offsets: [E P + 1] i64, P chunks; GroupedSwiGlu may work on one alone, as in moe/grouped_matmul.h
// z, dz: [R, 2F]   h, wh: [R, F]   dy: [R, C]   position: [N, K] i32, 0 .. R - 1 once each,
// -1 where there is no row (its dw is 0)
// w, dw: [N, K] in the accumulation type. h is computed from z as it is stored, dh is rounded to the
// type of dy. Sums in the accumulation type, rounded once. Every output is set, by GroupedSwiGlu the
// rows of its chunk; dz may be z.
#pragma once

#include "moe/grouped_matmul.h"

namespace lacuna {

struct GroupedSwiGluArgs {
  TensorRef x, w, offsets, z, h;
  int64_t chunks = 1, chunk = kAllChunks;
};
struct RoutedSwiGluBwdArgs {
  TensorRef dy, down, offsets, z, position, w, dz, wh, dw;
  int64_t chunks = 1;
};

namespace cpu {
void GroupedSwiGlu(const GroupedSwiGluArgs&, Stream);
void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void GroupedSwiGlu(const GroupedSwiGluArgs&, Stream);
void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void GroupedSwiGlu(const GroupedSwiGluArgs&, Stream);
void RoutedSwiGluBwd(const RoutedSwiGluBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
