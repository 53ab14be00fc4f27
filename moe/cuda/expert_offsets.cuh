// Where the routed rows of each expert stand, all of them or those of one chunk
// (moe/grouped_matmul.h).
#pragma once

#include <cstdint>

#include "core/tensor_ref.h"
#include "moe/grouped_matmul.h"

namespace lacuna::cuda {

struct ExpertOffsets {
  const int64_t* first;
  int chunks, length;  // of an expert; worked on

  LACUNA_HOST_DEVICE int64_t Begin(int e) const { return first[int64_t{e} * chunks]; }
  LACUNA_HOST_DEVICE int64_t End(int e) const { return first[int64_t{e} * chunks + length]; }
};

inline ExpertOffsets OffsetsOf(const TensorRef& offsets, int64_t chunks,
                               int64_t chunk = kAllChunks) {
  const bool all = chunk == kAllChunks;
  return {offsets.As<int64_t>() + (all ? 0 : chunk), static_cast<int>(chunks),
          all ? static_cast<int>(chunks) : 1};
}

}  // namespace lacuna::cuda
