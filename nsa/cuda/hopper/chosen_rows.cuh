// The rows of attention to selected blocks on Hopper, as core/ops/cuda/hopper/attention_dkv.cuh has
// them: a selection block meets the tokens that chose it, a chunk of them a grid block.
#pragma once

#include "core/dtype.h"
#include "core/ops/cuda/hopper/attention_dkv.cuh"
#include "nsa/cuda/list_chunks.cuh"

namespace lacuna::cuda::hopper {

template <int kDk, int kDv>
struct ChosenRows {
  static constexpr int kBlock = 64;

  // Of InvertedLists (nsa/cuda/inverted_lists.cuh): tokens by list, and where lists start.
  const int32_t* tokens;
  const int64_t* starts;
  int64_t num_blocks;
  const ListChunks* of_list;
  const Chunk* chunks;       // of the grid
  const int32_t* positions;  // of tokens in their documents
  BFloat16 *dk, *dv;         // where a list has one chunk
  float* partial;            // [sums, kBlock, Dk + Dv], where it has several
  int groups;

  __device__ bool Take(const AttentionSizes& sizes, attention::DkvWork& work) const {
    const Chunk chunk = chunks[blockIdx.x];
    if (chunk.list < 0) return false;
    const ListChunks list = of_list[chunk.list];
    int64_t index = 0;
    const int document = OwnerOfSlot(sizes.cu_keys, sizes.documents, int64_t{1}, kBlock,
                                     chunk.list % num_blocks, &index);
    const int64_t first = starts[chunk.list], tokens_of_list = starts[chunk.list + 1] - first,
                  begin = FirstOfChunk(tokens_of_list, chunk.index, list.count);
    work.group = static_cast<int>(chunk.list / num_blocks);
    work.first_key = sizes.cu_keys[document] + static_cast<int>(index) * kBlock;
    work.keys = min(kBlock, sizes.cu_keys[document + 1] - work.first_key);
    work.first = first + begin;
    work.tokens =
        static_cast<int>(FirstOfChunk(tokens_of_list, chunk.index + 1, list.count) - begin);
    work.start = work.tokens - 1;
    // The sums' place or -1 above, the position of the block's first key below.
    const int64_t sum = list.count > 1 ? list.first_sum + chunk.index : -1;
    work.at = sum * (int64_t{1} << 32) + index * kBlock;
    return work.keys > 0;
  }
  __device__ int Token(const attention::DkvWork& work, int i) const {
    return tokens[work.first + i];
  }
  __device__ attention::KeyRange KeysOf(const attention::DkvWork& work, int token) const {
    return {0, min(positions[token] - static_cast<int>(work.at), work.keys - 1)};
  }
  // Columns of [dk | dv].
  __device__ void Put(const attention::DkvWork& work, int key, int column, float x, float y) const {
    const int64_t sum = work.at >> 32;
    if (sum >= 0) {
      *reinterpret_cast<float2*>(partial + (sum * kBlock + key) * (kDk + kDv) + column) =
          make_float2(x, y);
    } else if (key < work.keys) {
      const int64_t row = (int64_t{work.first_key} + key) * groups + work.group;
      BFloat16* const to = column < kDk ? dk + row * kDk + column : dv + row * kDv + column - kDk;
      *reinterpret_cast<uint32_t*>(to) = PackBFloat16(x, y);
    }
  }
};

}  // namespace lacuna::cuda::hopper
