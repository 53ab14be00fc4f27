// Differentiable rotary position embedding.
#pragma once

#include "autograd/tape.h"
#include "core/rope_table.h"

namespace lacuna {

// x [N, heads, D] rotated to `positions` [N] i32; the table must be prepared for them
// (RopeTable::Prepare). In place where the caller moves x in and no rule has saved it.
Variable Rope(Tape& tape, Variable x, const Tensor& positions, const RopeTable& table);

}  // namespace lacuna
