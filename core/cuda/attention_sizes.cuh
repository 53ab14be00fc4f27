// Sizes of an attention call, and which tiles its documents are cut into.
//
// Where a document's tiles start is a closed form of its offset, an upper bound of the tiles before
// it: nobody counts tiles, and those that are too many find out that they have no rows.
#pragma once

#include <cuda_runtime.h>

#include "core/cuda/fragments.cuh"
#include "core/tensor_ref.h"

namespace lacuna::cuda {

struct AttentionSizes {
  int heads, groups, rep, dk, dv, documents;
  int64_t queries, keys;
  const int32_t *cu_queries, *cu_keys;
  float scale;

  template <class Args>
  static AttentionSizes Of(const Args& args) {
    const auto heads = static_cast<int>(args.q.dim(1)), groups = static_cast<int>(args.k.dim(1));
    return {.heads = heads,
            .groups = groups,
            .rep = heads / groups,
            .dk = static_cast<int>(args.q.dim(2)),
            .dv = static_cast<int>(args.v.dim(2)),
            .documents = static_cast<int>(args.cu_queries.dim(0)) - 1,
            .queries = args.q.dim(0),
            .keys = args.k.dim(0),
            .cu_queries = args.cu_queries.template As<int32_t>(),
            .cu_keys = args.cu_keys.template As<int32_t>(),
            .scale = static_cast<float>(args.scale)};
  }
};

// Slots of tiles of `tile` rows over documents of (cu[d + 1] - cu[d]) * factor rows. Those of
// document d start at cu[d] * factor / tile + d: ceil(a - b) <= floor(a) - floor(b) + 1.
inline int64_t NumSlots(int64_t rows, int64_t factor, int64_t tile, int64_t documents) {
  return rows * factor / tile + documents;
}
template <class Offset>
__host__ __device__ int64_t FirstSlot(const Offset* cu, int64_t d, int64_t factor, int64_t tile) {
  return static_cast<int64_t>(cu[d]) * factor / tile + d;
}
// The last of `count` entries of a non-decreasing sequence that is at most x; the first is.
template <class Value>
__device__ int LastAtMost(int count, int64_t x, Value&& value) {
  int low = 0, high = count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (value(middle) <= x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}
// The document (or list) whose slots `slot` is among, and the number of the tile within it.
template <class Offset>
__device__ int OwnerOfSlot(const Offset* cu, int count, int64_t factor, int64_t tile, int64_t slot,
                           int64_t* index) {
  const int d = LastAtMost(count, slot, [&](int i) { return FirstSlot(cu, i, factor, tile); });
  *index = slot - FirstSlot(cu, d, factor, tile);
  return d;
}
// The document that row `row` is in.
__device__ inline int DocumentOfRow(const int32_t* cu, int documents, int64_t row) {
  return LastAtMost(documents, row, [&](int i) { return int64_t{cu[i]}; });
}

}  // namespace lacuna::cuda
