// Attention for Hopper (sm_90a): bf16, any ranges. The contract is that of core/ops/attention.h.
#pragma once

#include "core/ops/attention.h"

namespace lacuna::cuda::hopper {

// (Dk, Dv) of (192, 128), (128, 128) and (64, 64); heads in groups of a power of two up to 64.
bool Supports(const AttentionFwdArgs&, Stream);

// Only what Supports says yes to. Keys that a row does not see weigh 0 in its sum, so they are to be
// finite, also those of a neighbouring document.
void AttentionFwd(const AttentionFwdArgs&, Stream);

// (Dk, Dv) of (192, 128) and (128, 128).
bool SupportsDq(const AttentionBwdArgs&, Stream);
// dq alone. delta: [N, H] f32, do . o. Only what SupportsDq says yes to, and as above.
void AttentionDq(const AttentionBwdArgs&, const float* delta, Stream);

// As SupportsDq.
bool SupportsDkv(const AttentionBwdArgs&, Stream);
// dk and dv, or where `partial` is not null their sums by parts, at most `parts` of a key tile, as in
// core/cuda/attention_parts.cuh. Rows of q and d_o are to be finite, also those of a neighbouring
// document: those that share a tile weigh 0 in its sums.
void AttentionDkv(const AttentionBwdArgs&, const float* delta, int parts, float* partial, Stream);

// Whether both say yes to causal attention of these sizes, as far as is known before a call.
bool SupportsBackward(const ops::CausalSizes&, Device);

}  // namespace lacuna::cuda::hopper
