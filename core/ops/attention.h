// Grouped-query attention over a contiguous range of keys per query: causal, windowed and
// compressed attention are this operator with other ranges.
//   p[n, h, j] = softmax_j(scale * q[n, h] . k[j, g]),  j in [ranges[n, 0], ranges[n, 1]),  g = h /
//     (H / G)
//   o[n, h] = sum_j p[n, h, j] v[j, g];   lse[n, h] = log sum_j exp(scale * q . k)
// A query with an empty range gives o = 0, lse = -inf and no gradients.
//   ds = p * (do . v - do . o);  dq = scale ds k;  dk = scale ds^T q;  dv = p^T do, summed over the
//     heads of a group
//
// q: [N, H, Dk]   k: [M, G, Dk]   v: [M, G, Dv]   o, do: [N, H, Dv]   lse: [N, H] accumulation type
// ranges: [N, 2] i32 rows of k, both ends non-decreasing within a document
// cu_queries, cu_keys: [D + 1] i32, the rows of each document in q and in k; ranges stay inside
// their document.
// Tiles restart at documents and sums run in a fixed order: equal inputs give a packed document the
// bits it gives alone, for any number of threads. Scores and sums are in the accumulation type. dq,
// dk, dv are set.
#pragma once

#include "core/tensor_ref.h"

namespace lacuna {

// Largest Dk and Dv that CUDA kernels take.
inline constexpr int64_t kMaxCudaHeadDim = 256;

struct AttentionFwdArgs {
  TensorRef q, k, v, ranges, cu_queries, cu_keys, o, lse;
  double scale;
};
struct AttentionBwdArgs {
  TensorRef q, k, v, ranges, cu_queries, cu_keys, o, lse, d_o, dq, dk, dv;
  double scale;
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
}  // namespace ops

}  // namespace lacuna
