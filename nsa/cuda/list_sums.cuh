// Where the gradients of blocks' keys go, and the adding up of those that were formed in chunks.
#pragma once

#include "nsa/cuda/list_chunks.cuh"

namespace lacuna::cuda {

template <class T>
struct ListSums {
  T *dk, *dv;      // [M, G, D]
  float* partial;  // [sums, l', Dk + Dv], of lists of several chunks
};

inline constexpr int kSumKeys = 16;  // that a grid block adds up

// dk, dv of kSumKeys keys (blockIdx.y) of a block (blockIdx.x, lists from `first_list` on): its
// chunks in order, 0 where nobody chose it.
template <class T>
__global__ void SumChunksKernel(ListSizes lists, ListSums<T> sums, const ListChunks* of_list,
                                int64_t first_list) {
  const AttentionSizes& s = lists.sizes;
  const int64_t list = first_list + blockIdx.x, select_block = lists.select_block;
  const ListChunks chunks = of_list[list];
  if (chunks.count == 1) return;
  int64_t index = 0;
  const int document = OwnerOfSlot(s.cu_keys, s.documents, int64_t{1}, select_block,
                                   list % lists.num_blocks, &index);
  const int64_t within = int64_t{blockIdx.y} * kSumKeys,
                key = s.cu_keys[document] + index * select_block + within;
  const int keys = static_cast<int>(
                min(min(int64_t{kSumKeys}, select_block - within), s.cu_keys[document + 1] - key)),
            width = s.dk + s.dv;
  const float* const first =
      sums.partial + (int64_t{chunks.first_sum} * select_block + within) * width;
  const int64_t head = key * s.groups + list / lists.num_blocks;
  for (int i = static_cast<int>(threadIdx.x); i < keys * width; i += blockDim.x) {
    float sum = 0;
#pragma unroll 4
    for (int c = 0; c < chunks.count; ++c) sum += first[c * select_block * width + i];
    const int column = i % width;
    const int64_t row = head + int64_t{i / width} * s.groups;
    if (column < s.dk) {
      sums.dk[row * s.dk + column] = static_cast<T>(sum);
    } else {
      sums.dv[row * s.dv + column - s.dk] = static_cast<T>(sum);
    }
  }
}

}  // namespace lacuna::cuda
