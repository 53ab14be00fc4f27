// MatMul with batch_invariant on the CPU: every element is one sum over k ascending. BLAS promises
// nothing of the kind, its kernels at the edges of a matrix add in orders of their own.
#pragma once

#include "core/ops/matmul.h"

namespace lacuna::cpu {

// `args` as ops::MatMul checks them; `add` is in c and counted in beta.
void BatchInvariantMatMul(const MatMulArgs& args);

}  // namespace lacuna::cpu
