// In which parts the gradients of a document's keys are taken, and which tokens a part has.
#pragma once

#include "core/cuda/attention_sizes.cuh"

namespace lacuna::cuda {

inline constexpr int kMaxParts = 16;

// In how many parts the query rows of a document's key tiles are taken.
__device__ inline int64_t NumParts(const AttentionSizes& s, int document) {
  const int64_t queries = s.cu_queries[document + 1] - s.cu_queries[document],
                keys = s.cu_keys[document + 1] - s.cu_keys[document];
  return keys == 0 ? 1 : max(int64_t{1}, min(int64_t{kMaxParts}, queries / keys));
}
// Where part 0 of key row `key` is among the partial sums' rows; parts are a document's keys apart.
// NumParts * keys <= queries + keys, so documents do not overlap.
__device__ inline int64_t PartialRow(const AttentionSizes& s, int document, int64_t key) {
  return s.cu_queries[document] + key;
}

// Tokens of a document from which on `test` holds (it does not stop to): the first, or the count.
template <class Test>
__device__ int64_t FirstToken(int64_t count, Test&& test) {
  int64_t low = 0, high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (test(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

struct TokenRange {
  int64_t begin, end;
};
// The tokens (of all documents) whose ranges touch `keys` rows of k from `key` on, those of them in
// part `part` of `parts` of the document: blocks of one part take the same tokens.
__device__ inline TokenRange TokensOf(const AttentionSizes& s, const int32_t* ranges, int document,
                                      int64_t key, int64_t keys, int64_t part, int64_t parts) {
  const int64_t first = s.cu_queries[document], count = s.cu_queries[document + 1] - first,
                from =
                    FirstToken(count, [&](int64_t t) { return ranges[2 * (first + t) + 1] > key; }),
                to = FirstToken(count,
                                [&](int64_t t) { return ranges[2 * (first + t)] >= key + keys; }),
                share = (count + parts - 1) / parts, begin = max(from, part * share),
                end = min(to, (part + 1) * share);
  return {first + begin, first + max(begin, end)};
}

}  // namespace lacuna::cuda
