// The rows of attention to selected blocks on Hopper, as core/ops/cuda/hopper/attention_dkv.cuh has
// them: a selection block meets the tokens that chose it, a chunk of them a grid block.
#pragma once

#include "core/ops/cuda/hopper/attention_dkv.cuh"

namespace lacuna::cuda::hopper {

template <int kDk, int kDv>
struct ChosenRows {
  static constexpr int kBlock = 64;

  // Of InvertedLists (nsa/cuda/inverted_lists.cuh): tokens by list, and where lists start.
  const int32_t* tokens;
  const int64_t* starts;
  int64_t num_blocks, chunk_rows;
  const int32_t* positions;  // of tokens in their documents
  float* partial;            // [chunks, kBlock, Dk + Dv]

  __device__ bool Take(const AttentionSizes& sizes, attention::DkvWork& work) const {
    int64_t chunk = 0, index = 0;
    const int list = OwnerOfSlot(starts, static_cast<int>(sizes.groups * num_blocks),
                                 int64_t{sizes.rep}, chunk_rows, int64_t{blockIdx.x}, &chunk),
              document = OwnerOfSlot(sizes.cu_keys, sizes.documents, int64_t{1}, kBlock,
                                     list % num_blocks, &index);
    work.group = static_cast<int>(list / num_blocks);
    work.first_key = sizes.cu_keys[document] + static_cast<int>(index) * kBlock;
    work.keys = min(kBlock, sizes.cu_keys[document + 1] - work.first_key);
    work.first = starts[list] + chunk * chunk_rows / sizes.rep;
    work.tokens = static_cast<int>(
        max(int64_t{0}, min(starts[list + 1] - work.first, chunk_rows / sizes.rep)));
    work.at = index * kBlock;  // position of the block's first key
    return work.tokens > 0 && work.keys > 0;
  }
  __device__ int Token(const attention::DkvWork& work, int i) const {
    return tokens[work.first + i];
  }
  __device__ attention::KeyRange KeysOf(const attention::DkvWork& work, int token) const {
    return {0, min(positions[token] - static_cast<int>(work.at), work.keys - 1)};
  }
  // Columns of [dk | dv].
  __device__ void Put(const attention::DkvWork&, int key, int column, float x, float y) const {
    *reinterpret_cast<float2*>(partial + (int64_t{blockIdx.x} * kBlock + key) * (kDk + kDv) +
                               column) = make_float2(x, y);
  }
};

}  // namespace lacuna::cuda::hopper
