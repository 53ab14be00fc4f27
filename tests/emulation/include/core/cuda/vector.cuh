// core/cuda/vector.cuh for the emulation: what the Hopper kernels use of it.
#pragma once

#include <cuda_runtime.h>

#include "core/dtype.h"

namespace lacuna::cuda {

template <class Word>
void StoreWord(Word* data, const Word& word) {
  *data = word;
}

}  // namespace lacuna::cuda
