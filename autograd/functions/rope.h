// Differentiable rotary position embedding.
#pragma once

#include "autograd/tape.h"
#include "core/rope_table.h"

namespace lacuna {

// x [N, heads, D] rotated to `positions` [N] i32; the table must be prepared for them
// (RopeTable::Prepare).
Variable Rope(Tape& tape, const Variable& x, const Tensor& positions, const RopeTable& table);

}  // namespace lacuna
