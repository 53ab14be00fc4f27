// What the CPU attention kernels share: transposed key tiles, gathering the rows of a query tile,
// and softmax rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "core/cpu/math.h"
#include "core/parallel.h"
#include "core/tensor_ref.h"

namespace lacuna::cpu {

// out [width, tile] = the transpose of `rows` <= tile rows of x that lie `stride` elements apart;
// columns of rows that are not there are zero. Four by four elements at a time, in registers.
template <class A>
void TransposeTile(const A* x, int64_t rows, int64_t stride, int64_t width, int64_t tile, A* out) {
  typedef A V __attribute__((vector_size(4 * sizeof(A))));
  const int64_t whole_rows = rows / 4 * 4, whole_columns = width / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_columns; c += 4) {
      V in[4], pairs[4], columns[4];
      for (int i = 0; i < 4; ++i) std::memcpy(&in[i], x + (r + i) * stride + c, sizeof(V));
      pairs[0] = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
      pairs[1] = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
      pairs[2] = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
      pairs[3] = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
      columns[0] = __builtin_shufflevector(pairs[0], pairs[2], 0, 1, 4, 5);
      columns[1] = __builtin_shufflevector(pairs[0], pairs[2], 2, 3, 6, 7);
      columns[2] = __builtin_shufflevector(pairs[1], pairs[3], 0, 1, 4, 5);
      columns[3] = __builtin_shufflevector(pairs[1], pairs[3], 2, 3, 6, 7);
      for (int i = 0; i < 4; ++i) std::memcpy(out + (c + i) * tile + r, &columns[i], sizeof(V));
    }
    for (int64_t c = whole_columns; c < width; ++c) {
      for (int64_t i = r; i < r + 4; ++i) out[c * tile + i] = x[i * stride + c];
    }
  }
  for (int64_t c = 0; c < width; ++c) {
    for (int64_t r = whole_rows; r < tile; ++r)
      out[c * tile + r] = r < rows ? x[r * stride + c] : A(0);
  }
}

// A copy of x [M, G, D] in tiles of `tile` rows that restart at every document, each tile
// transposed: tile i of group g is [D, tile], rows past the document's end are zero. Products over
// D then run along contiguous keys.
template <class A>
class TransposedTiles {
 public:
  TransposedTiles(const A* x, const int32_t* cu, int64_t documents, int64_t groups, int64_t width,
                  int64_t tile)
      : groups_(groups), width_(width), tile_(tile), first_(static_cast<size_t>(documents) + 1, 0) {
    for (int64_t d = 0; d < documents; ++d) {
      first_[static_cast<size_t>(d) + 1] =
          first_[static_cast<size_t>(d)] + (cu[d + 1] - cu[d] + tile - 1) / tile;
    }
    data_ = std::make_unique_for_overwrite<A[]>(
        static_cast<size_t>(first_.back() * groups * width * tile));
    for (int64_t d = 0; d < documents; ++d) {
      ParallelFor(first_[static_cast<size_t>(d) + 1] - first_[static_cast<size_t>(d)],
                  groups * width * tile, [&](int64_t t) {
                    const int64_t begin = cu[d] + t * tile,
                                  rows = std::min<int64_t>(tile, cu[d + 1] - begin);
                    for (int64_t g = 0; g < groups; ++g)
                      TransposeTile(x + (begin * groups + g) * width, rows, groups * width, width,
                                    tile, Tile(d, t, g));
                  });
    }
  }

  // [D, tile] of rows cu[document] + index * tile ...
  A* Tile(int64_t document, int64_t index, int64_t group) {
    return data_.get() +
           (((first_[static_cast<size_t>(document)] + index) * groups_ + group) * width_) * tile_;
  }

 private:
  int64_t groups_, width_, tile_;
  std::vector<int64_t> first_;  // tiles before each document
  std::unique_ptr<A[]> data_;
};

// [N, H]: what an attention's backward pass is given of do . o, or its sums over [N, H, Dv].
template <class A, class Args>
std::vector<A> DeltaOf(const Args& args, const A* d_o, const A* o) {
  const int64_t rows = args.lse.numel(), width = args.o.dim(2);
  std::vector<A> delta(static_cast<size_t>(rows));
  if (args.delta.defined()) {
    std::copy_n(args.delta.template As<A>(), rows, delta.data());
    return delta;
  }
  ParallelForChunks(rows, 256, width, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = r * width; c < (r + 1) * width; ++c)
        delta[static_cast<size_t>(r)] += d_o[c] * o[c];
    }
  });
  return delta;
}

// Rows (token, head of group g) of x [N, H, D] for `tokens` tokens from `first`, times `factor` ->
// out [tokens * rep, D].
template <class A>
void GatherRows(const A* x, int64_t first, int64_t tokens, int64_t heads, int64_t group,
                int64_t rep, int64_t width, A factor, A* out) {
  for (int64_t t = 0; t < tokens; ++t) {
    const A* row = x + ((first + t) * heads + group * rep) * width;
    for (int64_t i = 0; i < rep * width; ++i) out[t * rep * width + i] = factor * row[i];
  }
}

// One row of an online softmax over a tile of scores: exp in place on [begin, end), zero elsewhere;
// updates the running maximum and sum, and scales the output row when the maximum grows. (Milakov
// and Gimelshein, 2018)
template <class A>
void OnlineSoftmaxRow(A* scores, int64_t tile, int64_t begin, int64_t end, A* top, A* sum, A* o,
                      int64_t width) {
  if (begin >= end) {
    std::fill(scores, scores + tile, A(0));
    return;
  }
  A largest = *top;
#pragma omp simd reduction(max : largest)
  for (int64_t j = begin; j < end; ++j) largest = std::max(largest, scores[j]);
  if (largest > *top) {
    const A shrink = *sum == 0 ? A(0) : Exp(*top - largest);
    *sum *= shrink;
    for (int64_t c = 0; c < width; ++c) o[c] *= shrink;
    *top = largest;
  }
  std::fill(scores, scores + begin, A(0));
  std::fill(scores + end, scores + tile, A(0));
  A total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t j = begin; j < end; ++j) {
    scores[j] = Exp(scores[j] - largest);
    total += scores[j];
  }
  *sum += total;
}

// Turns scores into probabilities exp(score - lse) on [begin, end), zero elsewhere.
template <class A>
void ProbabilityRow(A* scores, int64_t tile, int64_t begin, int64_t end, A lse) {
  if (begin >= end) {
    std::fill(scores, scores + tile, A(0));
    return;
  }
  std::fill(scores, scores + begin, A(0));
  std::fill(scores + end, scores + tile, A(0));
  for (int64_t j = begin; j < end; ++j) scores[j] = Exp(scores[j] - lse);
}

}  // namespace lacuna::cpu
