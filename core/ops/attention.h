// Grouped-query attention over a contiguous range of keys per query: causal, windowed and
// compressed attention are this operator with other ranges.
//   p[n, h, j] = softmax_j(scale * q[n, h] . k[j, g]),  j in [ranges[n, 0], ranges[n, 1]),  g = h /
//     (H / G)
//   o[n, h] = sum_j p[n, h, j] v[j, g];   lse[n, h] = log sum_j exp(scale * q . k)
// A query with an empty range gives o = 0, lse = -inf and no gradients.
//   ds = p * (do . v - delta), delta = do . o;  dq = scale ds k;  dk = scale ds^T q;  dv = p^T do,
//     summed over the heads of a group
// Where a row's output goes on with a weight w > 0 (a gate), the gradients of its do = w do' need no
// do of their own: with lse - log w for lse, and do' for do, p becomes w p.
//
// q: [N, H, Dk]   k: [M, G, Dk]   v: [M, G, Dv]   o, do: [N, H, Dv]   lse: [N, H] accumulation type
// ranges: [N, 2] i32 rows of k, both ends non-decreasing within a document
// cu_queries, cu_keys: [D + 1] i32, the rows of each document in q and in k; ranges stay inside
// their document.
// Tiles restart at documents and sums run in a fixed order: equal inputs give a packed document the
// bits it gives alone, for any number of threads. Scores and sums are in the accumulation type. dq,
// dk, dv are set. Where cuDNN does the work (core/ops/cuda/attention_cudnn.h) these are its own
// tiles and orders.
//
// Ranges that are causal within their documents may say so, for kernels that can use it: `causal`
// repeats what `ranges` hold, which nobody checks.
#pragma once

#include "core/length_classes.h"
#include "core/tensor_ref.h"

namespace lacuna {

// Largest Dk and Dv that CUDA kernels take.
inline constexpr int64_t kMaxCudaHeadDim = 256;

// That queries and keys are the same rows, and token t of a document sees its tokens up to t.
struct CausalRows {
  int64_t window = -1;     // -1: any ranges; 0: all tokens up to t; w > 0: the last w of them
  int64_t max_length = 0;  // tokens of the longest document
  LengthClassCounts documents = {};
};

struct AttentionFwdArgs {
  TensorRef q, k, v, ranges, cu_queries, cu_keys, o, lse;
  double scale;
  CausalRows causal = {};
};
struct AttentionBwdArgs {
  TensorRef q, k, v, ranges, cu_queries, cu_keys, o, lse, d_o, dq, dk, dv;
  TensorRef delta = {};  // [N, H] accumulation type; made of d_o and o where it is left out
  double scale;
  CausalRows causal = {};
  bool deterministic = true;  // else kernels may be used whose last bits differ from run to run
  bool add_dq = false;        // dq is added to what is there
  // Where dk and dv are made, on CUDA: another stream than dq's (core/side_stream.h), delta being
  // given, or the same one.
  Stream key_stream = {};
};

namespace cpu {
void AttentionFwd(const AttentionFwdArgs&, Stream);
void AttentionBwd(const AttentionBwdArgs&, Stream);
}  // namespace cpu
namespace cuda {
void AttentionFwd(const AttentionFwdArgs&, Stream);
void AttentionBwd(const AttentionBwdArgs&, Stream);
}  // namespace cuda
namespace ops {
void AttentionFwd(const AttentionFwdArgs&, Stream);
void AttentionBwd(const AttentionBwdArgs&, Stream);

// Sizes of causal attention in a model.
struct CausalSizes {
  DType dtype;
  int64_t heads, groups, dk, dv;
};
// Tokens of the longest document whose gradients have the same bits in two runs on `device`, where
// that is asked for; the largest int64 where length does not matter.
int64_t LongestDeterministicDocument(const CausalSizes& sizes, Device device);
}  // namespace ops

}  // namespace lacuna
