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
  const int32_t* tokens;
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

inline constexpr int kPlanThreads = 1024, kPlanClasses = 256, kPlanShared = (kPlanClasses + 2) * 4;

// One block: the order in which the grid takes the chunks of the groups from `group` on. A chunk's rows
// are taken from its last token back, and blocks that run together are to take the same tokens at the
// same time, from L2: group by group, the chunks that end last come first. Small ones fill up the end.
// Which of a class is first is left to chance: no sum depends on it.
static __global__ void __launch_bounds__(kPlanThreads)
    PlanChunksKernel(ListSizes s, int group, int groups, int capacity, ListChunks* of_list,
                     Chunk* chunks) {
  // Where a class's next chunk goes; last, the sums.
  int* const next = reinterpret_cast<int*>(DynamicShared());
  constexpr int kSmall = kPlanClasses, kSums = kPlanClasses + 1;
  const int thread = static_cast<int>(threadIdx.x), ends = max(1, kPlanClasses / groups);
  const int64_t begin = group * s.num_blocks, end = begin + groups * s.num_blocks;
  for (int i = thread; i < kPlanClasses + 2; i += blockDim.x) next[i] = 0;
  __syncthreads();
  const auto chunks_of = [&](int64_t list, int64_t tokens) {
    int64_t index = 0;
    const int document = OwnerOfSlot(s.sizes.cu_keys, s.sizes.documents, int64_t{1}, s.select_block,
                                     list % s.num_blocks, &index);
    return static_cast<int>(min(tokens, max(int64_t{1}, tokens / s.ChunkTokens(document))));
  };
  const auto class_of = [&](int64_t list, int64_t tokens, int index, int count) {
    if (tokens < s.LeastChunkTokens() / 2) return kSmall;
    const int64_t last = s.tokens[s.start[list] + FirstOfChunk(tokens, index + 1, count) - 1],
                  from_end = (s.sizes.queries - 1 - last) * ends / s.sizes.queries;
    return min(static_cast<int>((list - begin) / s.num_blocks * ends + from_end), kPlanClasses - 1);
  };
  for (int64_t list = begin + thread; list < end; list += blockDim.x) {
    const int64_t tokens = s.start[list + 1] - s.start[list];
    const int count = chunks_of(list, tokens);
    for (int i = 0; i < count; ++i) atomicAdd(&next[class_of(list, tokens, i, count)], 1);
  }
  __syncthreads();
  if (thread == 0) {
    int before = 0;
    for (int c = 0; c <= kSmall; ++c) {
      const int count = next[c];
      next[c] = before;
      before += count;
    }
  }
  __syncthreads();
  for (int64_t list = begin + thread; list < end; list += blockDim.x) {
    const int64_t tokens = s.start[list + 1] - s.start[list];
    const int count = chunks_of(list, tokens);
    of_list[list] = {count, count > 1 ? atomicAdd(&next[kSums], count) : 0};
    for (int i = 0; i < count; ++i)
      chunks[atomicAdd(&next[class_of(list, tokens, i, count)], 1)] = {static_cast<int>(list), i};
  }
  __syncthreads();
  // The last class ends where all do.
  for (int i = next[kSmall] + thread; i < capacity; i += blockDim.x) chunks[i] = {-1, 0};
}

}  // namespace lacuna::cuda
