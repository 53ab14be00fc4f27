// The kernels of inverted_lists.cuh before and after the sort.
#pragma once

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/reduce.cuh"

namespace lacuna::cuda {

// (list, token) of every place of the lists [N, G, n], in the order of tokens, a warp a token; list
// `G * num_blocks` of a place that chose nothing.
static __global__ void ChoicesKernel(AttentionSizes s, const int32_t* blocks, int places,
                                     int select_block, int64_t num_blocks, uint32_t* lists,
                                     int32_t* tokens) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warps = blockDim.x / kWarp,
            count = s.groups * places;
  for (int64_t n = int64_t{blockIdx.x} * warps + threadIdx.x / kWarp; n < s.queries;
       n += int64_t{gridDim.x} * warps) {
    const int document = DocumentOfRow(s.cu_queries, s.documents, n);
    const int64_t first = FirstSlot(s.cu_keys, document, 1, select_block);
    for (int i = lane; i < count; i += kWarp) {
      const int64_t at = n * count + i, block = first + blocks[at];
      const bool chose = block >= first && block < num_blocks;
      lists[at] =
          static_cast<uint32_t>(chose ? i / places * num_blocks + block : s.groups * num_blocks);
      tokens[at] = static_cast<int32_t>(n);
    }
  }
}

// start[i] = the entries of lists before i among `entries` sorted ones, for i <= num_lists.
static __global__ void StartsKernel(const uint32_t* lists, int64_t entries, int64_t num_lists,
                                    int64_t* start) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i <= num_lists;
       i += int64_t{gridDim.x} * blockDim.x) {
    int64_t low = 0, high = entries;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (lists[middle] < i) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    start[i] = low;
  }
}

}  // namespace lacuna::cuda
