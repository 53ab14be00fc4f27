// AdamW (Loshchilov and Hutter, 2019) on flat buffers, with the clipping factor folded in.
//   g' = gradient_scale * g;   m = beta1 m + (1 - beta1) g';   v = beta2 v + (1 - beta2) g'^2
//   p -= lr * (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay * p);   value = p
//     rounded
// master (p), grad, m, v: [n] f32 (or all f64)   value: [n] the compute type; may be master itself.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct AdamWArgs {
  TensorRef master, value, grad, m, v;
  double learning_rate, beta1, beta2, eps, weight_decay;
  double gradient_scale;
  int64_t step;  // t, from 1
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
