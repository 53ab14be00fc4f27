// The rows of attention over ranges, as attention_dkv.cuh has them: a tile of 64 keys meets the tokens
// whose ranges touch it, which follow one another; a part of them a grid block.
#pragma once

#include "core/cuda/attention_parts.cuh"
#include "core/dtype.h"
#include "core/ops/cuda/hopper/attention_dkv.cuh"

namespace lacuna::cuda::hopper::attention {

// Grid: (slots of key tiles, groups, parts).
template <int kDk, int kDv>
struct RangeRows {
  static constexpr int kKeys = 64;
  static constexpr bool kConsecutive = true;

  const int32_t* ranges;
  BFloat16 *dk, *dv;  // where the grid has one part
  float* partial;     // [rows, G, Dk + Dv] as in core/cuda/attention_parts.cuh, or null
  int groups;

  __device__ bool Take(const AttentionSizes& s, DkvWork& work) const {
    int64_t index = 0;
    const int document =
        OwnerOfSlot(s.cu_keys, s.documents, int64_t{1}, kKeys, int64_t{blockIdx.x}, &index);
    const int64_t key = s.cu_keys[document] + index * kKeys, end = s.cu_keys[document + 1],
                  part = blockIdx.z, parts = partial == nullptr ? 1 : NumParts(s, document);
    if (key >= end || part >= parts) return false;
    const TokenRange tokens =
        TokensOf(s, ranges, document, key, min(int64_t{kKeys}, end - key), part, parts);
    work.group = static_cast<int>(blockIdx.y);
    work.first_key = static_cast<int>(key);
    work.keys = static_cast<int>(min(int64_t{kKeys}, end - key));
    work.tokens = static_cast<int>(tokens.end - tokens.begin);
    work.first = tokens.begin;
    // Neighbours' tokens are nearly the same: blocks that run together are to take them at the same
    // time, from L2. They start with the last of the document or part, or in a window where its tokens
    // are a multiple of their number.
    const bool to_the_end = partial != nullptr || tokens.end == s.cu_queries[document + 1];
    if (to_the_end) {
      work.start = max(0, work.tokens - 1);
    } else if (work.tokens > 0) {
      const auto before = static_cast<int>(tokens.begin - s.cu_queries[document]);
      work.start = (work.tokens - before % work.tokens) % work.tokens;
    }
    // Where the sums go.
    work.at = partial == nullptr
                  ? key
                  : PartialRow(s, document, key) + part * (end - s.cu_keys[document]);
    return true;
  }
  __device__ int Token(const DkvWork& work, int i) const {
    return static_cast<int>(work.first) + i;
  }
  __device__ KeyRange KeysOf(const DkvWork& work, int token) const {
    return {ranges[2 * int64_t{token}] - work.first_key,
            min(ranges[2 * int64_t{token} + 1] - work.first_key, work.keys) - 1};
  }
  // Columns of [dk | dv].
  __device__ void Put(const DkvWork& work, int key, int column, float x, float y) const {
    if (key >= work.keys) return;
    const int64_t row = (work.at + key) * groups + work.group;
    if (partial != nullptr) {
      *reinterpret_cast<float2*>(partial + row * (kDk + kDv) + column) = make_float2(x, y);
    } else {
      BFloat16* const to = column < kDk ? dk + row * kDk + column : dv + row * kDv + column - kDk;
      *reinterpret_cast<uint32_t*>(to) = PackBFloat16(x, y);
    }
  }
};

}  // namespace lacuna::cuda::hopper::attention
