// The correction bias of a sigmoid router after a step (arXiv 2408.15664):
//   bias_e += rate * sign(mean count - count_e)
// counts: [E] f64 of whole numbers, so that an expert with exactly the mean count stays where it
// is. bias: [E] f32 or f64.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct UpdateBiasArgs {
  TensorRef counts, bias;
  double rate;
};

namespace cpu {
void UpdateBias(const UpdateBiasArgs&, Stream);
}
namespace cuda {
void UpdateBias(const UpdateBiasArgs&, Stream);
}
namespace ops {
void UpdateBias(const UpdateBiasArgs&, Stream);
}

}  // namespace lacuna
