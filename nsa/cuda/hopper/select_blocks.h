// Scores and choice of the selection blocks for Hopper (sm_90a), bf16. The contract is that of
// nsa/select_blocks.h.
#pragma once

#include "nsa/select_blocks.h"

namespace lacuna::cuda::hopper {

// Heads 192, 128 or 64 wide, 8, 16, 32 or 64 of them in a group; selection blocks of at most 64
// strides.
bool Supports(const SelectBlocksArgs&, Stream);

// Only what Supports says yes to.
void SelectBlocks(const SelectBlocksArgs&, Stream);

}  // namespace lacuna::cuda::hopper
