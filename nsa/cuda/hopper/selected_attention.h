// Attention to selected blocks for Hopper (sm_90a): bf16. The contract is that of
// nsa/selected_attention.h.
#pragma once

#include "nsa/selected_attention.h"

namespace lacuna::cuda::hopper {

// (Dk, Dv) of (192, 128) and (128, 128), blocks of 64 tokens, heads in groups of 8, 16, 32 or 64.
bool Supports(const SelectedAttentionFwdArgs&, Stream);

// Only what Supports says yes to. Keys that a row does not see weigh 0 in its sum, so they are to be
// finite, also those of a neighbouring document.
void SelectedAttentionFwd(const SelectedAttentionFwdArgs&, Stream);

}  // namespace lacuna::cuda::hopper
