// In which chunks the tokens that chose a block are taken: as many as the length of the block's
// document and its list ask for, equal to a token, so that a packed document has the bits it has alone.
//
// A list of one chunk is the usual case: its dk and dv are written where they belong. The sums of
// several (block 0 is chosen by all) are f32 rows, added in order afterwards. A document's chunks
// grow with its length: it has kDocumentSums such rows at most.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/cuda/attention_sizes.cuh"
#include "core/cuda/hopper.cuh"

namespace lacuna::cuda {

// Rows (token, head) of a chunk, at least, where its list has several.
inline constexpr int64_t kChunkRows = 4096;
inline constexpr int64_t kDocumentSums = 1 << 16;

// Lists of blocks (nsa/cuda/inverted_lists.cuh) of all groups.
struct ListSizes {
  AttentionSizes sizes;
  int places, select_block;
  int64_t num_blocks;  // of a group
  const int64_t* start;
  int64_t chunk_rows = kChunkRows;

  __host__ __device__ int64_t LeastChunkTokens() const {
    return max(int64_t{1}, chunk_rows / sizes.rep);
  }
  // Tokens of a chunk of a list of several, at least; fewer than twice as many.
  __device__ int64_t ChunkTokens(int document) const {
    const int64_t tokens = sizes.cu_queries[document + 1] - sizes.cu_queries[document],
                  keys = tokens * places * sizes.groups * select_block;
    return max(LeastChunkTokens(), (keys + kDocumentSums - 1) / kDocumentSums);
  }
  // Of a group, in lists of several: chunks * ChunkTokens <= tokens of a list, summed over lists.
  int64_t MaxSums() const {
    return std::min(sizes.queries * places / LeastChunkTokens(),
                    sizes.documents * (kDocumentSums / (int64_t{sizes.groups} * select_block)));
  }
  int64_t MaxChunks() const { return num_blocks + MaxSums(); }
};

struct ListChunks {
  int count;      // 0: nobody chose the block
  int first_sum;  // of several: where its sums' [l', Dk + Dv] are
};
struct Chunk {
  int list, index;  // list -1: none
};

__host__ __device__ inline int64_t FirstOfChunk(int64_t tokens, int index, int count) {
  return tokens * index / count;
}

inline constexpr int kPlanThreads = 1024, kPlanClasses = 64, kPlanShared = (kPlanClasses + 1) * 4;

// The class of a chunk's size, the largest first: two for every power of 2.
__device__ inline int ClassOfChunk(int64_t tokens) {
  const int size = static_cast<int>(min(tokens, int64_t{INT32_MAX})), log = 31 - __clz(size),
            upper = log > 0 ? size >> (log - 1) & 1 : 0;
  return kPlanClasses - 1 - (2 * log + upper);
}

// One block: the chunks of the groups from `group` on, the large ones first, so that the small ones
// fill up the end. Which of a class is first is left to chance: no sum depends on it.
static __global__ void __launch_bounds__(kPlanThreads)
    PlanChunksKernel(ListSizes s, int group, int groups, int capacity, ListChunks* of_list,
                     Chunk* chunks) {
  int* const next = reinterpret_cast<int*>(DynamicShared());  // of a class; last, of the sums
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t begin = group * s.num_blocks, end = begin + groups * s.num_blocks;
  if (thread <= kPlanClasses) next[thread] = 0;
  __syncthreads();
  const auto chunks_of = [&](int64_t list, int64_t tokens) {
    int64_t index = 0;
    const int document = OwnerOfSlot(s.sizes.cu_keys, s.sizes.documents, int64_t{1}, s.select_block,
                                     list % s.num_blocks, &index);
    return static_cast<int>(min(tokens, max(int64_t{1}, tokens / s.ChunkTokens(document))));
  };
  for (int64_t list = begin + thread; list < end; list += blockDim.x) {
    const int64_t tokens = s.start[list + 1] - s.start[list];
    const int count = chunks_of(list, tokens);
    if (count > 0) atomicAdd(&next[ClassOfChunk(tokens / count)], count);
  }
  __syncthreads();
  if (thread == 0) {
    int before = 0;
    for (int c = 0; c < kPlanClasses; ++c) {
      const int count = next[c];
      next[c] = before;
      before += count;
    }
  }
  __syncthreads();
  for (int64_t list = begin + thread; list < end; list += blockDim.x) {
    const int64_t tokens = s.start[list + 1] - s.start[list];
    const int count = chunks_of(list, tokens);
    of_list[list] = {count, count > 1 ? atomicAdd(&next[kPlanClasses], count) : 0};
    if (count == 0) continue;
    const int at = atomicAdd(&next[ClassOfChunk(tokens / count)], count);
    for (int i = 0; i < count; ++i) chunks[at + i] = {static_cast<int>(list), i};
  }
  __syncthreads();
  // The last class ends where all do.
  for (int i = next[kPlanClasses - 1] + thread; i < capacity; i += blockDim.x) chunks[i] = {-1, 0};
}

}  // namespace lacuna::cuda
