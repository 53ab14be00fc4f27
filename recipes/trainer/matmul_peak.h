// The matrix-product rate of this machine, which model FLOPs utilization is measured against on a
// CPU.
#pragma once

#include "core/dtype.h"

namespace lacuna {

// Best rate (FLOP/s) of a few square products of this dtype with this rank's threads; takes about
// 0.5 s.
double MeasureMatMulPeak(DType dtype);

}  // namespace lacuna
