// AdamW (Loshchilov and Hutter, 2019) on flat buffers, with the clipping factor folded in.
//   g' = gradient_scale * g;   m = beta1 m + (1 - beta1) g';   v = beta2 v + (1 - beta2) g'^2
//   p -= lr * (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * p);   value = p
//     rounded
// A gradient_scale of NaN stands for a step that must not happen: nothing is changed, and nobody on
// the host had to look at the number (ClipFactor).
// master (p), grad: [n] f32 (or all f64)   m, v: [n] of that type or both bf16   value: [n] the
//   compute type; may be master itself   gradient_scale: [1] f64
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct AdamWArgs {
  TensorRef master, value, grad, m, v, gradient_scale;
  double learning_rate, beta1, beta2, eps, weight_decay;
  int64_t step;  // t, from 1
};

// What of AdamW is the same for all elements, in the precision it is computed in.
template <class A>
struct AdamWFactors {
  A beta1, beta2, step, correction, decay, eps;

  static AdamWFactors Of(const AdamWArgs& args);
};

namespace cpu {
void AdamW(const AdamWArgs&, Stream);
}
namespace cuda {
void AdamW(const AdamWArgs&, Stream);
}
namespace ops {
void AdamW(const AdamWArgs&, Stream);
}

}  // namespace lacuna
