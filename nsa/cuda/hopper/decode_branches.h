// Decoding of NSA for Hopper (sm_90a), bf16. The contract is that of nsa/decode_branches.h.
#pragma once

#include "nsa/decode_branches.h"

namespace lacuna::cuda::hopper {

// (Dk, Dv) of (192, 128), (128, 128) and (64, 64), groups of up to 16 heads, as many tokens as shared
// memory has room for their compressed rows' scores (370 thousand in the usual grid).
bool Supports(const DecodeBranchesArgs&, Stream);

// Only what Supports says yes to.
void DecodeBranches(const DecodeBranchesArgs&, Stream);

}  // namespace lacuna::cuda::hopper
