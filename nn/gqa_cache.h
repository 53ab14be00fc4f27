// Decode state of full attention, and a step over it for a batch.
#pragma once

#include <vector>

#include "core/rope_table.h"
#include "nn/attention.h"
#include "nn/decode_step.h"
#include "nn/growing_rows.h"

namespace lacuna {

struct KeyValueCache : AttentionCache {
  int64_t length() const override { return k.size(); }
  GrowingRows k, v;  // [s, G, D], keys rotated
};

// Takes in one token of each sequence and attends with it to all that its sequence has. Rows of q
// [N, H, Dk], k [N, G, Dk], v [N, G, Dv] -> the same rows of o [N, H, Dv]. Caches already have room
// for the token; addresses [S, 2]: of their k and v. `rope`: for q and k that are not rotated yet,
// prepared for the step; null for rotated ones. Running it again does the same again.
void DecodeGqa(const Tensor& q, const Tensor& k, const Tensor& v, const DecodeTokens& tokens,
               const Tensor& addresses, const RopeTable* rope, double scale, Stream stream,
               Tensor* o);

}  // namespace lacuna
