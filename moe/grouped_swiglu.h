// SwiGLU between the two products of routed experts.
//   z[r] = x[r] w[e]^T, rows by expert as in moe/grouped_matmul.h,   h = SwiGLU(z)   (GroupedSwiGlu)
// Backward of y[n] = sum_k w[n, k] (h[r] through the second product), r = position[n, k], where
// dh[r] is the gradient of h[r] without its weight:                              (RoutedSwiGluBwd)
//   dw[n, k] = dh[r] . h[r]      the same as dy[n] . y[r], without y being kept
//   dz[r]    = dSwiGLU(z[r], w[n, k] dh[r])
//   wh[r]    = w[n, k] h[r]      what the second matrix's gradient is taken with
// x: [R, C]   w of the product: [E, 2F, C], gate rows first   offsets: [E + 1] i64   z, dz: [R, 2F]
// h, dh, wh: [R, F]   position: [N, K] i32, a permutation of 0 .. R - 1   w, dw: [N, K] in the
// accumulation type. h is computed from z as it is stored. Sums in the accumulation type, rounded
// once. Every output is set; dz may be z.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct GroupedSwiGluArgs {
  TensorRef x, w, offsets, z, h;
};
struct RoutedSwiGluBwdArgs {
  TensorRef z, dh, position, w, dz, wh, dw;
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
