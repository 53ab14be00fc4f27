// SwiGLU (Shazeer, 2020) on a fused projection: x = [gate | up].
//   h = silu(gate) * up,   silu(a) = a / (1 + exp(-a))
//   dgate = dh * up * s (1 + gate (1 - s)),  dup = dh * silu(gate),  s = 1 / (1 + exp(-gate))
// x, dx: [N, 2F]   h, dh: [N, F]. Arithmetic in the compute type. dx is set and may be x.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct SwiGluFwdArgs {
  TensorRef x, h;
};
struct SwiGluBwdArgs {
  TensorRef x, dh, dx;
};

namespace cpu {
void SwiGluFwd(const SwiGluFwdArgs&, Stream);
void SwiGluBwd(const SwiGluBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void SwiGluFwd(const SwiGluFwdArgs&, Stream);
void SwiGluBwd(const SwiGluBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void SwiGluFwd(const SwiGluFwdArgs&, Stream);
void SwiGluBwd(const SwiGluBwdArgs&, Stream);
}  // namespace ops

}  // namespace lacuna
