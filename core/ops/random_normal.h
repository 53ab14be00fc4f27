// Normal numbers for the start of parameters.
//   y[k] = std * PhiloxNormal(key, stream, first + k)   (core/random.h)
// y: f32 or f64, set. A pure function of (key, stream, first + k): the same bits on every device.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

struct RandomNormalArgs {
  TensorRef y;
  uint64_t key, stream;
  double std;
  uint64_t first = 0;
};

namespace cpu {
void RandomNormal(const RandomNormalArgs&, Stream);
}
namespace cuda {
void RandomNormal(const RandomNormalArgs&, Stream);
}
namespace ops {
void RandomNormal(const RandomNormalArgs&, Stream);
}

}  // namespace lacuna
