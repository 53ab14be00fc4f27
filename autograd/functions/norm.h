// Differentiable normalisation.
#pragma once

#include "autograd/tape.h"

namespace lacuna {

// Rows of x [..., C] by RMS, scaled by weight [C]; core/ops/rms_norm.h.
Variable RmsNorm(Tape& tape, const Variable& x, Parameter& weight, double eps);

}  // namespace lacuna
